package stream

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestOversizedAnswersAreDiscarded checks that a reader discards the answer of a server that sends more data of an object than was requested.
func TestOversizedAnswersAreDiscarded(t *testing.T) {
	host, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	host.Start()
	t.Cleanup(host.Shutdown)
	if !host.ReadyForConnections(time.Minute) {
		t.Fatal("the server did not start")
	}
	nc, err := nats.Connect(host.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	answer := func(to, subject string, sequence int, data []byte) {
		nc.PublishMsg(&nats.Msg{Subject: to, Data: data, Header: nats.Header{sequenceHeader: {fmt.Sprint(sequence)}, subjectHeader: {subject}}})
	}
	_, err = nc.Subscribe(directGet+">", func(m *nats.Msg) {
		var q query
		if json.Unmarshal(m.Data, &q) != nil {
			return
		}
		if name, ok := strings.CutPrefix(q.Last, metaSubject); ok {
			raw, _ := base64.URLEncoding.DecodeString(name)
			info := jetstream.ObjectInfo{ObjectMeta: jetstream.ObjectMeta{Name: string(raw)}, NUID: string(raw), Size: 1 << 60, Digest: jetstream.GetObjectDigestValue(sha256.New())}
			body, _ := json.Marshal(info)
			answer(m.Reply, q.Last, 1, body)
			return
		}
		chunk, count := make([]byte, 512<<10), 5
		if strings.HasSuffix(q.Next, ".small") {
			chunk, count = chunk[:1], maxBatch+1
		}
		for i := range count {
			answer(m.Reply, q.Next, i+2, chunk)
		}
		nc.PublishMsg(&nats.Msg{Subject: m.Reply, Header: nats.Header{statusHeader: {"204"}, pendingHeader: {"1"}}})
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := Connect(t.Context(), NodeConfig{URL: host.ClientURL(), Name: "node", Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	for _, name := range []string{"large", "small"} {
		o, err := r.Object(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, o); !errors.Is(err, errOversizedBatch) || n > maxBatchBytes+512<<10 {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		o.Close()
	}
}
