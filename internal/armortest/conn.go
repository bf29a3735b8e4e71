package armortest

import (
	"net"
	"sync"
)

// listener hands out connections that can be cut and frozen.
type listener struct {
	net.Listener
	behaviour func() Behaviour

	mu    sync.Mutex
	conns map[*conn]bool
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		inner, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		b := l.behaviour()
		c := &conn{Conn: inner, listener: l, left: b.CutAfter, reset: b.Reset, frozen: b.Deaf}
		c.moved = sync.NewCond(&c.mu)
		l.mu.Lock()
		l.conns[c] = true
		l.mu.Unlock()
		if b.Away {
			c.cut(true)
			continue
		}
		return c, nil
	}
}

func (l *listener) all() []*conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*conn
	for c := range l.conns {
		all = append(all, c)
	}
	return all
}

func (l *listener) cut(reset bool) {
	for _, c := range l.all() {
		c.cut(reset)
	}
}

func (l *listener) freeze() {
	for _, c := range l.all() {
		c.setFrozen(true)
	}
}

func (l *listener) thaw() {
	for _, c := range l.all() {
		c.setFrozen(false)
	}
}

// conn is a connection that can be cut and frozen.
type conn struct {
	net.Conn
	listener *listener
	reset    bool

	mu     sync.Mutex
	moved  *sync.Cond
	frozen bool
	closed bool
	// left is how many bytes may still be written before it is cut; 0 for all.
	left int64
}

func (c *conn) setFrozen(frozen bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen = frozen
	c.moved.Broadcast()
}

// wait waits until the connection moves.
func (c *conn) wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.frozen && !c.closed {
		c.moved.Wait()
	}
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	c.wait()
	n, err := c.Conn.Read(p)
	c.wait()
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	c.wait()
	c.mu.Lock()
	whole := c.left == 0
	n := int64(len(p))
	if !whole {
		n = max(0, min(n, c.left))
		c.left -= int64(len(p))
		if whole = c.left > 0; !whole && c.left == 0 {
			c.left = -1
		}
	}
	c.mu.Unlock()
	if whole {
		return c.Conn.Write(p)
	}
	written, _ := c.Conn.Write(p[:n])
	c.cut(c.reset)
	return written, net.ErrClosed
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.moved.Broadcast()
	c.mu.Unlock()
	c.listener.mu.Lock()
	delete(c.listener.conns, c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

// cut closes the connection, without a farewell where it can be had.
func (c *conn) cut(reset bool) {
	if tcp, ok := c.Conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0) // Without it the connection ends, too.
	}
	_ = c.Close()
}
