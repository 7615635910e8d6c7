// gobwas/ws on a raw listener and epoll: no goroutine, no buffer per idle connection. One goroutine reads those that
// are ready, one message at a time.
package main

import (
	"io"
	"log"
	"net"
	"syscall"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"golang.org/x/sys/unix"
	"roost/benches/peers/peer"
)

type client struct {
	net.Conn
	fd int
}

type poller struct {
	fd   int
	hall peer.Hall[*client]
	// By descriptor; as many as there may be.
	clients []*client
}

func descriptor(conn net.Conn) (fd int) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		log.Fatal(err)
	}
	_ = raw.Control(func(f uintptr) { fd = int(f) })
	return fd
}

func (p *poller) add(conn net.Conn) {
	c := &client{conn, descriptor(conn)}
	p.clients[c.fd] = c
	p.hall.Enter(c)
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(c.fd)}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, c.fd, &event); err != nil {
		log.Fatal(err)
	}
}

func (p *poller) drop(c *client) {
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, c.fd, nil)
	p.hall.Leave(c)
	c.Close()
}

// next reads one message, or a ping, which it answers: nothing that is still to come is waited for.
func next(c *client) (message []byte, op ws.OpCode, err error) {
	control := wsutil.ControlFrameHandler(c, ws.StateServerSide)
	reader := wsutil.Reader{Source: c, State: ws.StateServerSide, CheckUTF8: true, OnIntermediate: control}
	header, err := reader.NextFrame()
	if err != nil {
		return nil, 0, err
	}
	if header.OpCode.IsControl() {
		return nil, header.OpCode, control(header, &reader)
	}
	message, err = io.ReadAll(&reader)
	return message, header.OpCode, err
}

func (p *poller) read(c *client) {
	message, op, err := next(c)
	if err != nil {
		p.drop(c)
		return
	}
	if op.IsControl() {
		return
	}
	if !peer.ToAll(message) {
		if wsutil.WriteServerMessage(c, op, message) != nil {
			p.drop(c)
		}
		return
	}
	frame, err := ws.CompileFrame(ws.NewFrame(op, true, message))
	if err != nil {
		log.Fatal(err)
	}
	p.hall.Each(func(c *client) { _, _ = c.Write(frame) })
}

func (p *poller) run() {
	events := make([]unix.EpollEvent, 1024)
	for {
		n, err := unix.EpollWait(p.fd, events, -1)
		if err != nil && err != unix.EINTR {
			log.Fatal(err)
		}
		for _, event := range events[:max(n, 0)] {
			p.read(p.clients[event.Fd])
		}
	}
}

func main() {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		log.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		log.Fatal(err)
	}
	p := &poller{fd: fd, clients: make([]*client, limit.Max)}
	go p.run()
	listener := peer.Listen()
	peer.Ready(listener.Addr().String())
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		if _, err := ws.Upgrade(conn); err != nil {
			conn.Close()
			continue
		}
		p.add(conn)
	}
}
