package stream

import (
	"io"
	"sync"

	"rempart/internal/wire"
)

const (
	streamBatch = 32       // queries given to Fast at once
	inRoom      = 8 << 10  // for messages of a stream; a larger message gets memory of its own
	pieceRoom   = 64 << 10 // answers are written in pieces of about this size
	keptRoom    = 2048     // a larger buffer for an answer is not kept
)

// workspace is the memory with which a connection reads queries and answers them. A connection takes one when data arrives and gives it back when no data
// is left, so that an idle connection holds none.
type workspace struct {
	records []byte       // TLS records that arrived; only for TLS
	at      int          // those before this byte of records were decrypted
	in      []byte       // decrypted, or over TCP as received: messages
	batch   []wire.Query // in use; its capacity is streamBatch
	out     []byte       // answers of a batch
	scratch []byte       // queries of GET requests; only for HTTP/2
}

// workspaces lends workspaces to connections. The zero value is ready for use.
type workspaces struct{ pool sync.Pool }

func (w *workspaces) take() *workspace {
	if ws, ok := w.pool.Get().(*workspace); ok {
		return ws
	}
	return &workspace{in: make([]byte, 0, inRoom), batch: make([]wire.Query, 0, streamBatch)}
}

// giveBack takes a workspace back, without the larger buffers that single messages needed.
func (w *workspaces) giveBack(ws *workspace) {
	ws.records, ws.at = ws.records[:0], 0
	if ws.in = small(ws.in, inRoom); cap(ws.in) < inRoom {
		ws.in = make([]byte, 0, inRoom)
	}
	ws.out, ws.scratch = small(ws.out, pieceRoom), small(ws.scratch, inRoom)
	ws.clearBatch()
	w.pool.Put(ws)
}

// clearBatch ends the use of the queries, without the larger buffers of their answers.
func (ws *workspace) clearBatch() {
	for i := range ws.batch {
		q := &ws.batch[i]
		q.Packet, q.Return = nil, nil
		q.Out = small(q.Out, keptRoom)
	}
	ws.batch = ws.batch[:0]
}

// small returns an empty buffer: buf, or another one if the capacity of buf is above room.
func small(buf []byte, room int) []byte {
	if cap(buf) > room {
		return nil
	}
	return buf[:0]
}

// arrivals reads a socket into the memory of a workspace, and holds a workspace only while there is data in it. One goroutine uses it.
type arrivals struct {
	socket
	from *workspaces
	ws   *workspace // nil while nothing has arrived
	held bool       // ws is in use, even if it holds no data
	// records reports whether data is received as TLS records.
	records bool
}

// room returns free memory for received data.
func (a *arrivals) room() []byte {
	if a.ws == nil {
		a.ws = a.from.take()
	}
	if !a.records {
		return a.ws.in[len(a.ws.in):cap(a.ws.in)]
	}
	if cap(a.ws.records) == 0 {
		a.ws.records = make([]byte, 0, recordRoom)
	}
	a.ws.records, a.ws.at = append(a.ws.records[:0], a.ws.records[a.ws.at:]...), 0
	return a.ws.records[len(a.ws.records):cap(a.ws.records)]
}

// received adds the n bytes that were read into room.
func (a *arrivals) received(n int) {
	buf := &a.ws.in
	if a.records {
		buf = &a.ws.records
	}
	*buf = (*buf)[:len(*buf)+n]
}

// release gives the workspace back if it holds no data.
func (a *arrivals) release() {
	if !a.held && a.empty() {
		a.drop()
	}
}

// empty reports whether no data is left.
func (a *arrivals) empty() bool { return a.ws == nil || len(a.ws.in)+len(a.ws.records)-a.ws.at == 0 }

// drop gives the workspace back, whatever it holds.
func (a *arrivals) drop() {
	if a.ws != nil {
		a.from.giveBack(a.ws)
		a.ws = nil
	}
}

// receive waits until data arrives, and reads it. It returns io.EOF if the client sends no more.
func (a *arrivals) receive() error {
	n, err := a.read(a)
	if err != nil {
		return err
	}
	if n == 0 {
		return io.EOF
	}
	a.received(n)
	return nil
}
