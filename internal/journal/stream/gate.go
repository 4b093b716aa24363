package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

const (
	// gateWorkers is how many nodes' questions are answered at a time: their answers, a batch and a message each, must fit
	// in what may wait for one connection.
	gateWorkers = 3
	// gateQueue is how many more wait.
	gateQueue = 1024
	// gatePerNode is how many of one node's questions may wait or be worked on.
	gatePerNode = 16
	// maxQuestion bounds a question, in octets.
	maxQuestion = 1024
)

// gate answers the reads of the embedded server's nodes: only streams that nodes may read, only to a node's own inbox, never more
// at a time than a bounded batch. A server that answered them itself would send a batch of any length to any subject.
type gate struct {
	control, nodes *nats.Conn
	queue          chan question
	ctx            context.Context
	stop           context.CancelFunc
	workers        sync.WaitGroup

	mu   sync.Mutex
	busy map[string]int // by node
}

// question is one node's read.
type question struct {
	node, stream, reply string
	query               query
}

// readable are the streams that nodes read.
var readable = []string{journalStream, beatsStream, objectStream}

// openGate begins to answer. It takes control, a connection to read by: what nodes read must not delay acknowledgements.
func openGate(control, nodes *nats.Conn) (*gate, error) {
	ctx, stop := context.WithCancel(context.Background())
	g := &gate{control: control, nodes: nodes, queue: make(chan question, gateQueue), ctx: ctx, stop: stop, busy: map[string]int{}}
	sub, err := nodes.Subscribe(gateGet+"*.*", g.receive)
	if err == nil {
		err = sub.SetPendingLimits(gateQueue, gateQueue*maxQuestion)
	}
	if err != nil {
		g.close()
		return nil, fmt.Errorf("answer nodes: %w", err)
	}
	for range gateWorkers {
		g.workers.Go(g.work)
	}
	return g, nil
}

// close stops answering.
func (g *gate) close() {
	g.stop()
	g.workers.Wait()
	g.control.Close()
}

// receive checks a question and queues it. What no node of ours asks gets no answer.
func (g *gate) receive(m *nats.Msg) {
	node, stream, _ := strings.Cut(strings.TrimPrefix(m.Subject, gateGet), ".")
	q := question{node: node, stream: stream, reply: m.Reply}
	switch {
	case !slices.Contains(readable, stream), !strings.HasPrefix(m.Reply, nodeInbox+node+"."), len(m.Data) > maxQuestion:
		return
	case json.Unmarshal(m.Data, &q.query) != nil:
		return
	}
	q.query.Batch = min(max(q.query.Batch, 0), maxBatch)
	q.query.MaxBytes = maxBatchBytes
	if !g.enter(node) {
		g.refuse(q)
		return
	}
	select {
	case g.queue <- q:
	default:
		g.leave(node)
		g.refuse(q)
	}
}

// refuse has a node ask again later.
func (g *gate) refuse(q question) {
	g.nodes.PublishMsg(&nats.Msg{Subject: q.reply, Header: nats.Header{statusHeader: {"429"}, descHeader: {"too many questions"}}})
}

// enter counts a node's question, unless it has too many.
func (g *gate) enter(node string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy[node] >= gatePerNode {
		return false
	}
	g.busy[node]++
	return true
}

// leave is enter's end.
func (g *gate) leave(node string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy[node]--; g.busy[node] <= 0 {
		delete(g.busy, node)
	}
}

// work answers questions until the gate closes.
func (g *gate) work() {
	for {
		select {
		case <-g.ctx.Done():
			return
		case q := <-g.queue:
			g.answer(q)
			g.leave(q.node)
		}
	}
}

// answer asks JetStream and passes what it says to the node, up to the end of the batch.
func (g *gate) answer(q question) {
	body, err := json.Marshal(q.query)
	if err != nil {
		return
	}
	inbox := g.control.NewInbox()
	sub, err := g.control.SubscribeSync(inbox)
	if err != nil {
		return
	}
	defer sub.Unsubscribe()
	if err := g.control.PublishRequest(directGet+q.stream, inbox, body); err != nil {
		return
	}
	for {
		m, err := next(g.ctx, sub)
		if err != nil {
			return
		}
		if err := g.nodes.PublishMsg(&nats.Msg{Subject: q.reply, Header: m.Header, Data: m.Data}); err != nil {
			return
		}
		if _, end, err := parse(m); end || errors.Is(err, ErrNone) || err != nil || q.query.Batch == 0 {
			return
		}
	}
}
