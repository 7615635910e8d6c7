// gorilla/websocket as most servers use it: a goroutine per connection. What is said to everybody is framed once
// (PreparedMessage).
package main

import (
	"log"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
	"roost/benches/peers/peer"
)

type client struct {
	*websocket.Conn
	write sync.Mutex // One writer at a time, as the package asks.
}

var (
	hall     peer.Hall[*client]
	upgrader = websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024, WriteBufferPool: &sync.Pool{}}
)

func serve(w http.ResponseWriter, r *http.Request) {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	c := &client{Conn: conn}
	hall.Enter(c)
	defer conn.Close()
	defer hall.Leave(c)
	for {
		kind, message, err := conn.ReadMessage()
		if err != nil {
			return
		}
		if !peer.ToAll(message) {
			c.write.Lock()
			err = conn.WriteMessage(kind, message)
			c.write.Unlock()
			if err != nil {
				return
			}
			continue
		}
		prepared, err := websocket.NewPreparedMessage(kind, message)
		if err != nil {
			return
		}
		hall.Each(func(c *client) {
			c.write.Lock()
			defer c.write.Unlock()
			_ = c.WritePreparedMessage(prepared) // Who is gone ends in its own goroutine.
		})
	}
}

func main() {
	listener := peer.Listen()
	peer.Ready(listener.Addr().String())
	log.Fatal(http.Serve(listener, http.HandlerFunc(serve)))
}
