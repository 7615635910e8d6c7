// antlabs/greatws: its own epoll loops, messages handled in the loop that read them.
package main

import (
	"log"
	"log/slog"
	"net/http"

	"github.com/antlabs/greatws"
	"roost/benches/peers/peer"
)

type handler struct{ hall peer.Hall[*greatws.Conn] }

func (h *handler) OnOpen(c *greatws.Conn)           { h.hall.Enter(c) }
func (h *handler) OnClose(c *greatws.Conn, _ error) { h.hall.Leave(c) }
func (h *handler) OnMessage(c *greatws.Conn, op greatws.Opcode, message []byte) {
	if peer.ToAll(message) {
		h.hall.Each(func(c *greatws.Conn) { _ = c.WriteMessage(op, message) })
	} else if err := c.WriteMessage(op, message); err != nil {
		c.Close()
	}
}

func main() {
	loops := greatws.NewMultiEventLoopMust(
		greatws.WithEventLoops(0), greatws.WithMaxEventNum(256), greatws.WithLogLevel(slog.LevelError),
		greatws.WithBusinessGoNum(80, 10, 1000))
	loops.Start()
	h := &handler{}
	serve := func(w http.ResponseWriter, r *http.Request) {
		_, err := greatws.Upgrade(w, r,
			greatws.WithServerReplyPing(), greatws.WithServerIgnorePong(), greatws.WithServerCallback(h),
			greatws.WithServerCallbackInEventLoop(), greatws.WithServerMultiEventLoop(loops))
		if err != nil {
			log.Print(err)
		}
	}
	listener := peer.Listen()
	peer.Ready(listener.Addr().String())
	log.Fatal(http.Serve(listener, http.HandlerFunc(serve)))
}
