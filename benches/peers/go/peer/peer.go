// Package peer is what the Go servers of the comparison share: flags, the listener, the ready file, and the hall of
// those who hear what is said to everybody.
package peer

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"net"
	"os"
	"sync"
	"syscall"
)

var (
	listen = flag.String("listen", "127.0.0.1:0", "where to listen")
	ready  = flag.String("ready-file", "", "where to write address and pid once it listens")
)

func init() { flag.Parse() }

// Listen returns the listener of the flags.
func Listen() net.Listener {
	reuse := func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) })
	}
	listener, err := (&net.ListenConfig{Control: reuse}).Listen(context.Background(), "tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	return listener
}

// Ready says that the server listens at addr.
func Ready(addr string) {
	line, _ := json.Marshal(map[string]any{"listen": addr, "pid": os.Getpid()})
	if *ready == "" {
		os.Stdout.Write(append(line, '\n'))
		return
	}
	half := *ready + ".half"
	if err := os.WriteFile(half, line, 0o600); err != nil {
		log.Fatal(err)
	}
	if err := os.Rename(half, *ready); err != nil {
		log.Fatal(err)
	}
}

// ToAll tells whether a message is for everybody.
func ToAll(message []byte) bool { return len(message) > 0 && message[0] == '!' }

// Hall holds every connection.
type Hall[C comparable] struct {
	lock    sync.RWMutex
	members map[C]struct{}
}

// Enter adds a connection.
func (h *Hall[C]) Enter(c C) {
	h.lock.Lock()
	defer h.lock.Unlock()
	if h.members == nil {
		h.members = make(map[C]struct{})
	}
	h.members[c] = struct{}{}
}

// Leave removes it.
func (h *Hall[C]) Leave(c C) {
	h.lock.Lock()
	defer h.lock.Unlock()
	delete(h.members, c)
}

// Each calls f with every connection.
func (h *Hall[C]) Each(f func(C)) {
	h.lock.RLock()
	defer h.lock.RUnlock()
	for c := range h.members {
		f(c)
	}
}
