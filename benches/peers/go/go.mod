module roost/benches/peers

go 1.26

require (
	github.com/antlabs/greatws v0.2.2
	github.com/gobwas/ws v1.5.0
	github.com/gorilla/websocket v1.5.3
	github.com/lesismal/nbio v1.6.12
	golang.org/x/sys v0.20.0
)

require (
	github.com/antlabs/cpuproc v0.0.0-20240615150837-aa4bcf33806c // indirect
	github.com/antlabs/wsutil v0.1.10 // indirect
	github.com/gobwas/httphead v0.1.0 // indirect
	github.com/klauspost/compress v1.17.8 // indirect
	github.com/lesismal/llib v1.2.4 // indirect
	golang.org/x/crypto v0.0.0-20210513122933-cd7d49e622d5 // indirect
)
