// lesismal/nbio in its non-blocking mode: its own pollers, no goroutine per connection, pooled buffers.
package main

import (
	"log"
	"net"
	"net/http"

	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"
	"roost/benches/peers/peer"
)

var hall peer.Hall[*websocket.Conn]

func main() {
	logging.SetLevel(logging.LevelError)
	upgrader := websocket.NewUpgrader()
	upgrader.BlockingModAsyncWrite = false
	upgrader.KeepaliveTime = 0
	upgrader.OnOpen(hall.Enter)
	upgrader.OnClose(func(c *websocket.Conn, _ error) { hall.Leave(c) })
	upgrader.OnMessage(func(c *websocket.Conn, kind websocket.MessageType, message []byte) {
		if peer.ToAll(message) {
			hall.Each(func(c *websocket.Conn) { _ = c.WriteMessage(kind, message) })
		} else if err := c.WriteMessage(kind, message); err != nil {
			c.Close()
		}
	})
	serve := func(w http.ResponseWriter, r *http.Request) {
		if _, err := upgrader.Upgrade(w, r, nil); err != nil {
			log.Print(err)
		}
	}
	listener := peer.Listen()
	engine := nbhttp.NewEngine(nbhttp.Config{
		Network:                 "tcp",
		Addrs:                   []string{listener.Addr().String()},
		Listen:                  func(_, _ string) (net.Listener, error) { return listener, nil },
		MaxLoad:                 1_000_000,
		ReleaseWebsocketPayload: true,
		IOMod:                   nbhttp.IOModNonBlocking,
		Handler:                 http.HandlerFunc(serve),
	})
	if err := engine.Start(); err != nil {
		log.Fatal(err)
	}
	peer.Ready(listener.Addr().String())
	select {}
}
