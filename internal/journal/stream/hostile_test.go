package stream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// attacker is a node whose secret is right and whose program is not ours.
func attacker(t *testing.T, s *Stream, name string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("nats://"+s.server.addr().String(), nats.UserInfo(name, secretOf(name)),
		nats.CustomInboxPrefix(nodeInbox+token(name)), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// hear subscribes for all that comes; the test's other side counts it.
func hear(t *testing.T, nc *nats.Conn, subjects ...string) *nats.Subscription {
	t.Helper()
	arrived := make(chan *nats.Msg, 1000)
	var sub *nats.Subscription
	for _, subject := range subjects {
		var err error
		if sub, err = nc.ChanSubscribe(subject, arrived); err != nil {
			t.Fatal(err)
		}
	}
	nc.Flush()
	return sub
}

// TestAuthenticate says who gets in.
func TestAuthenticate(t *testing.T) {
	s := open(t, testConfig(t))
	url := "nats://" + s.server.addr().String()
	for what, opts := range map[string][]nats.Option{
		"nobody":                 nil,
		"a wrong secret":         {nats.UserInfo("node", "guess")},
		"no secret":              {nats.UserInfo("node", "")},
		"another's secret":       {nats.UserInfo("node", secretOf("other"))},
		"no name":                {nats.UserInfo("", secretOf(""))},
		"control, by its name":   {nats.UserInfo(controlUser, "")},
		"a token":                {nats.Token(secretOf("node"))},
		"a name of many octets":  {nats.UserInfo(strings.Repeat("n", maxName+1), secretOf(strings.Repeat("n", maxName+1)))},
		"the system account":     {nats.UserInfo("$SYS", "admin")},
		"control, by its secret": {nats.UserInfo(controlUser, secretOf("node"))},
	} {
		if nc, err := nats.Connect(url, opts...); err == nil {
			nc.Close()
			t.Errorf("%s got in", what)
		}
	}
	c := testConfig(t)
	c.Authenticate = nil
	s = open(t, c)
	if nc, err := nats.Connect("nats://"+s.server.addr().String(), nats.UserInfo("node", "x")); err == nil {
		nc.Close()
		t.Error("without Authenticate a node got in")
	}
	// A node named as control's user is a node all the same.
	c = testConfig(t)
	s = open(t, c)
	nc := attacker(t, s, gateUser)
	if _, err := nc.Request("$JS.API.INFO", nil, 200*time.Millisecond); err == nil {
		t.Error("a node with control's name has control's rights")
	}
}

// TestSession has a node asked for its secret again: who was taken off the list is out in a while, who was not goes on.
func TestSession(t *testing.T) {
	c := testConfig(t)
	var barred atomic.Bool
	c.Authenticate = func(name, secret string) bool { return name == "good" || !barred.Load() }
	s := open(t, c)
	s.server.session = time.Second
	good, bad := connect(t, s, "good"), connect(t, s, "bad")
	eventually(t, "both", func() bool { return good.nc.IsConnected() && bad.nc.IsConnected() })
	barred.Store(true)
	eventually(t, "the bad one to be out", func() bool { return !bad.nc.IsConnected() })
	appendOK(t, s, 0, "change", payload(1))
	collect(t, good, 0, 1)
	if _, err := bad.At(t.Context(), 1); err == nil {
		t.Error("who was taken off the list reads")
	}
	barred.Store(false)
	collect(t, bad, 0, 1)
}

// TestConnectLater connects to what is not there yet, or does not let the node in yet.
func TestConnectLater(t *testing.T) {
	c := testConfig(t)
	var allowed atomic.Bool
	c.Authenticate = func(string, string) bool { return allowed.Load() }
	s := open(t, c)
	appendOK(t, s, 0, "change", payload(1))
	r := connect(t, s, "node") // it is refused
	if _, err := r.Last(t.Context(), ""); !errors.Is(err, errNotConnected) {
		t.Errorf("Last: %v", err)
	}
	if _, err := Connect(t.Context(), NodeConfig{URL: "nats://rempart.invalid:4222", Name: "node", Secret: func() string { return "x" }, Log: testLog(t)}); err != nil {
		t.Errorf("a server without an address: %v", err)
	}
	allowed.Store(true)
	collect(t, r, 0, 1)
}

// TestHostilePublish has a node try to write, and to have others write for it.
func TestHostilePublish(t *testing.T) {
	ctx := t.Context()
	s := open(t, testConfig(t))
	appendOK(t, s, 0, "change", payload(1))
	if err := s.Beat(ctx, []byte("beat")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Bucket(Tokens).Create(ctx, "key", []byte("value")); err != nil {
		t.Fatal(err)
	}
	if err := s.PutObject(ctx, "snapshot", strings.NewReader("octets")); err != nil {
		t.Fatal(err)
	}
	type report struct{ from, data string }
	reports := make(chan report, 1000)
	go s.Reports(ctx, func(node string, data []byte) { reports <- report{node, string(data)} })
	before := states(t, s)

	victim := attacker(t, s, "victim")
	heard := hear(t, victim, nodeInbox+"victim.>")
	nc, own := attacker(t, s, "evil"), reportSubject+reporter("evil", secretOf("evil"))
	targets := []string{
		journalSubject + "change", beatsSubject, auditSubject, chunkSubject + "x", metaSubject + "x",
		"$KV." + bucketPrefix + Tokens + ".key", "$JS.API.STREAM.DELETE." + journalStream, "$JS.API.STREAM.PURGE." + journalStream,
		"$JS.API.STREAM.MSG.DELETE." + journalStream, "$JS.API.STREAM.UPDATE." + journalStream, "$JS.API.STREAM.CREATE.MINE",
		"$JS.API.CONSUMER.CREATE." + journalStream, "$JS.API.CONSUMER.DURABLE.CREATE." + journalStream + ".x", "$JS.API.META.LEADER.STEPDOWN",
		"$SYS.REQ.SERVER.PING", newSubject + "journal.change", newBeats, reportSubject + "victim", reportSubject + "evil", reportSubject + reporter("victim", secretOf("victim")), reportSubject + "evil.x",
		nodeInbox + "victim.x", "anything", gateGet + "victim." + journalStream,
	}
	for _, subject := range targets {
		nc.Publish(subject, []byte(`{"name":"MINE","subjects":["mine"],"seq":1}`))
		nc.PublishRequest(subject, nodeInbox+"evil.answer", []byte(`{"seq":1}`))
	}
	// Answers that are to go where the node itself may not publish.
	question, _ := json.Marshal(query{Sequence: 1, Batch: 10, MaxBytes: 1 << 30})
	for _, reply := range append(targets, "_INBOX.control.x", "_INBOX.node.evilx.y", "_INBOX.node.*.y") {
		for _, stream := range readable {
			nc.PublishRequest(gateGet+"evil."+stream, reply, question)
		}
		// Message tracing, by which servers publish to a subject of the message's choice.
		nc.PublishMsg(&nats.Msg{Subject: own, Data: []byte("x"), Header: nats.Header{
			"Nats-Trace-Dest": {reply}, "traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, "Nats-Rollup": {"all"}}})
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	// The node's own report comes after all it did.
	check := func() (last bool) {
		for len(reports) > 0 {
			r := <-reports
			if reportSubject+r.from != own {
				t.Errorf("a report of %s", r.from)
			}
			last = last || r.data == "last"
		}
		return last
	}
	eventually(t, "the last report", func() bool {
		nc.Publish(own, []byte("last")) // control may not have subscribed before
		return check()
	})
	time.Sleep(300 * time.Millisecond) // for what it caused elsewhere
	check()
	if n, _, _ := heard.Pending(); n > 0 {
		t.Errorf("the other node heard %d messages", n)
	}
	if after := states(t, s); after != before {
		t.Errorf("streams were\n%s and are\n%s", before, after)
	}
}

// states describes all streams.
func states(t *testing.T, s *Stream) string {
	t.Helper()
	var b strings.Builder
	names := s.js.ListStreams(t.Context())
	all := map[string]*jetstream.StreamInfo{}
	for info := range names.Info() {
		all[info.Config.Name] = info
	}
	for _, want := range streams(1) {
		info := all[want.Name]
		if info == nil {
			t.Fatalf("stream %s is gone", want.Name)
		}
		fmt.Fprintf(&b, "%s %d-%d %d consumers\n", want.Name, info.State.FirstSeq, info.State.LastSeq, info.State.Consumers)
	}
	fmt.Fprintf(&b, "%d streams", len(all))
	return b.String()
}

// TestHostileRead has a node try to read what is not for nodes.
func TestHostileRead(t *testing.T) {
	ctx := t.Context()
	s := open(t, testConfig(t))
	nc := attacker(t, s, "evil")
	for _, subject := range []string{">", "*", "$SYS.>", "$JS.>", "_INBOX.>", "_INBOX.*.>", controlInbox + ".>", nodeInbox + "victim.>",
		journalSubject + ">", auditSubject, "$KV.>", reportSubject + ">", reportSubject + "*", gateGet + ">", "$O.>", nodeInbox + "*.>"} {
		// Subscriptions that are refused are so by name; none may be silently taken.
		failed := make(chan error, 1)
		nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			select {
			case failed <- err:
			default:
			}
		})
		sub, err := nc.SubscribeSync(subject)
		if err != nil {
			continue
		}
		nc.Flush()
		select {
		case err := <-failed:
			if !strings.Contains(strings.ToLower(err.Error()), "permissions violation") {
				t.Errorf("%s: %v", subject, err)
			}
		case <-time.After(time.Minute):
			t.Errorf("subscribed to %s", subject)
		}
		sub.Unsubscribe()
	}
	appendOK(t, s, 0, "change", payload(1))
	if _, err := s.Audit(ctx, 0, []byte("secret")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{Tokens, Holds, Receipts} {
		if _, err := s.Bucket(name).Create(ctx, "key", []byte("secret")); err != nil {
			t.Fatal(err)
		}
	}
	for _, stream := range []string{auditStream, "KV_" + bucketPrefix + Tokens, "KV_" + bucketPrefix + Holds, "KV_" + bucketPrefix + Receipts, "*", ">", "", journalStream + ".x"} {
		for _, prefix := range []string{gateGet + "evil.", directGet, "$JS.API.STREAM.MSG.GET.", "$JS.API.STREAM.INFO."} {
			if m, err := nc.Request(prefix+stream, []byte(`{"seq":1}`), 50*time.Millisecond); err == nil {
				t.Errorf("%s%s answers %q", prefix, stream, m.Data)
			}
		}
	}
	for _, body := range []string{"", "{", "null", "[]", `{"seq":-1}`, `{"batch":1000000000}`, strings.Repeat(" ", maxQuestion+1), `{"multi_last":[">"]}`,
		`{"seq":1,"last_by_subj":"x"}`, `{"seq":99,"batch":-5}`} {
		if m, err := nc.Request(gateGet+"evil."+journalStream, []byte(body), 50*time.Millisecond); err == nil && m.Header.Get(statusHeader) == "" {
			t.Errorf("%q is answered by %d octets", body, len(m.Data))
		}
	}
	if m, err := nc.Request(gateGet+"evil."+journalStream, []byte(`{"seq":1}`), time.Minute); err != nil || string(m.Data) != string(payload(1)) {
		t.Errorf("what it may read: %v", err)
	}
}

// TestGreedy has nodes ask without end and read nothing: others go on, and memory is bounded by what the server keeps for one.
func TestGreedy(t *testing.T) {
	s := open(t, testConfig(t))
	big := make([]byte, 1<<20)
	const n = 40
	for i := range uint64(n) {
		appendOK(t, s, i, "change", big)
	}
	var deaf []net.Conn
	for i := range 3 {
		c, err := net.Dial("tcp", s.server.addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		name := fmt.Sprint("deaf", i)
		fmt.Fprintf(c, "CONNECT {\"user\":%q,\"pass\":%q,\"headers\":true,\"verbose\":false}\r\nSUB %s%s.> 1\r\nSUB %s> 2\r\n", name, secretOf(name), nodeInbox, name, newSubject)
		deaf = append(deaf, c)
	}
	body := `{"seq":1,"batch":1000000,"max_bytes":1000000000}`
	for range 100 {
		for i, c := range deaf {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			fmt.Fprintf(c, "PUB %sdeaf%d.%s %sdeaf%d.x %d\r\n%s\r\n", gateGet, i, journalStream, nodeInbox, i, len(body), body)
		}
	}
	node := connect(t, s, "good")
	for i := range uint64(20) {
		appendOK(t, s, n+i, "change", payload(n+i+1))
	}
	collect(t, node, n, 20)
}

// TestTLS has nodes connect by TLS, and refuses those that do not.
func TestTLS(t *testing.T) {
	web := httptest.NewUnstartedServer(nil)
	web.StartTLS()
	defer web.Close()
	c := testConfig(t)
	c.Listen = "127.0.0.1:0"
	c.TLS = &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}
	s := open(t, c)
	appendOK(t, s, 0, "change", payload(1))
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, ca, web.Certificate())
	url := "tls://" + s.server.addr().String()
	r, err := Connect(t.Context(), NodeConfig{URL: url, Name: "node", Secret: func() string { return secretOf("node") }, RootCAs: rootsOf(ca), Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	collect(t, r, 0, 1)
	if nc, err := nats.Connect(url, nats.UserInfo("node", secretOf("node"))); err == nil {
		nc.Close()
		t.Error("a certificate of nobody is believed")
	}
	pool := x509.NewCertPool()
	pool.AddCert(web.Certificate())
	raw, err := net.Dial("tcp", s.server.addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	fmt.Fprintf(raw, "CONNECT {\"user\":\"node\",\"pass\":%q,\"tls_required\":false}\r\nPING\r\n", secretOf("node"))
	raw.SetReadDeadline(time.Now().Add(10 * time.Second))
	answer := make([]byte, 64<<10)
	for read := 0; ; {
		n, err := raw.Read(answer[read:])
		if read += n; err != nil {
			if strings.Contains(string(answer[:read]), "PONG") {
				t.Error("plain text is served")
			}
			break
		}
	}
	if _, err := Connect(t.Context(), NodeConfig{URL: url, Name: "node", RootCAs: rootsOf(filepath.Join(t.TempDir(), "none.pem"))}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("certificates that are not there: %v", err)
	}
	if _, err := Connect(context.Background(), NodeConfig{URL: url}); err == nil {
		t.Error("connected without a name")
	}
}

// rootsOf returns the authorities in a file, which is read at each connection.
func rootsOf(path string) func() (*x509.CertPool, error) {
	return func() (*x509.CertPool, error) {
		data, err := os.ReadFile(path)
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(data)
		return pool, err
	}
}

func writePEM(t *testing.T, path string, cert *x509.Certificate) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
}
