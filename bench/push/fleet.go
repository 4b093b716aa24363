package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"rempart/internal/signing"

	"github.com/miekg/dns"

	"rempart/bench"
	"rempart/internal/changeset"
	"rempart/internal/pushapi"
)

// process is a measured program.
type process struct {
	cmd  *exec.Cmd
	out  *os.File
	addr string // where it answers DNS or the API
}

func (p *process) peak() int { return bench.Memory(p.cmd.Process.Pid, "VmHWM") }

// fleet is a control and the servers that follow it.
type fleet struct {
	options
	dir, upstream   string
	control         *process
	root            *signing.SecretKey
	publisher, node string // tokens
	edges           []*process

	ending   atomic.Bool
	loading  sync.WaitGroup
	answered atomic.Int64
	lost     atomic.Int64
}

func (f *fleet) launch(name, addr string, args []string, settings ...string) (*process, error) {
	out, err := os.Create(filepath.Join(f.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(f.program, args...), out: out, addr: addr}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = bench.Environ(append(settings, "REMPART_DATA_DIR="+filepath.Join(f.dir, name), "REMPART_METRICS_LISTEN=none")...)
	return p, p.cmd.Start()
}

// startControl starts control, and creates tokens as soon as it answers.
func (f *fleet) startControl(list string) error {
	api, err := bench.FreeAddr()
	if err != nil {
		return err
	}
	f.control, err = f.launch("control", api, []string{"control"}, "REMPART_LISTS="+list, "REMPART_PUSH_LISTEN="+api)
	if err != nil {
		return err
	}
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if resp, err := http.Get("http://" + api + "/openapi.json"); err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(end) {
			return errors.New("control cannot be asked")
		}
	}
	if f.root, err = signing.ReadSecretKey(filepath.Join(f.dir, "control", "keys", "root.key")); err != nil {
		return err
	}
	if f.publisher, err = f.token("desk", pushapi.Publisher); err != nil {
		return err
	}
	f.node, err = f.token("nodes", pushapi.Node)
	return err
}

// token creates a token, and tries again while control is not ready.
func (f *fleet) token(name string, role pushapi.Role) (string, error) {
	var last error
	for range 600 {
		order, err := json.Marshal(pushapi.Order{Do: "create", Name: name, Roles: []pushapi.Role{role}, Time: time.Now().Unix()})
		if err != nil {
			return "", err
		}
		var info pushapi.TokenInfo
		_, last = f.post("/v1/tokens", "application/vnd.rempart.order", "", signing.Seal(signing.KindOrder, order, f.root), &info)
		if last == nil {
			return info.Secret, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return "", last
}

func (f *fleet) startEdge() error {
	addr, err := bench.FreeAddr()
	if err != nil {
		return err
	}
	control := "http://" + f.control.addr + "/v1/journal"
	p, err := f.launch(fmt.Sprintf("edge%d", len(f.edges)), addr, nil, "REMPART_CONTROL="+control, "REMPART_CONTROL_KEY="+f.root.PublicKey.String(),
		"REMPART_CONTROL_TOKEN="+f.node, "REMPART_LISTEN="+addr, "REMPART_UPSTREAMS=udp://"+f.upstream, "REMPART_PAGE_LISTEN=none", "REMPART_PAGE_IPV4=192.0.2.66")
	f.edges = append(f.edges, p)
	return err
}

// post sends a body and reads the answer's JSON; it returns when the answer began.
func (f *fleet) post(path, mediaType, token string, body []byte, into any) (time.Time, error) {
	req, err := http.NewRequest(http.MethodPost, "http://"+f.control.addr+path, bytes.NewReader(body))
	if err != nil {
		return time.Time{}, err
	}
	req.Header.Set("Content-Type", mediaType)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	at := time.Now()
	if err != nil {
		return at, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return at, err
	}
	if resp.StatusCode/100 != 2 {
		return at, fmt.Errorf("%s: %s: %.500s", path, resp.Status, data)
	}
	return at, json.Unmarshal(data, into)
}

// push pushes a change set, and approves it if it is held because of its many names.
func (f *fleet) push(mediaType, query string, body []byte) (time.Time, error) {
	var r changeset.Receipt
	at, err := f.post("/v1/changesets"+query, mediaType, f.publisher, body, &r)
	if err != nil || r.State == changeset.Published {
		return at, err
	}
	if r.State != changeset.Held {
		return at, fmt.Errorf("the change set is %s", r.State)
	}
	approver, err := f.token("boss", pushapi.Approver)
	if err != nil {
		return at, err
	}
	return f.post("/v1/changesets/"+r.ID+"/approve", "application/json", approver, nil, &r)
}

// blockedAt asks a server for a name until it is blocked, and returns when the answer came.
func (p *process) blockedAt(name string, patience time.Duration) (time.Time, error) {
	c, err := dns.Dial("udp", p.addr)
	if err != nil {
		return time.Time{}, err
	}
	defer c.Close()
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
		m.Id = dns.Id()
		if c.WriteMsg(m) != nil {
			continue
		}
		a, err := c.ReadMsg()
		if err == nil && a.Id == m.Id && len(a.Answer) == 1 {
			if r, ok := a.Answer[0].(*dns.A); ok && r.A.String() == "192.0.2.66" {
				return time.Now(), nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("%s was not blocked at %s within %v", name, p.addr, patience)
}

// untilBlocked waits until a name is blocked on every server.
func (f *fleet) untilBlocked(name string, patience time.Duration) error {
	for _, e := range f.edges {
		if _, err := e.blockedAt(name, patience); err != nil {
			return err
		}
	}
	return nil
}

// load asks each server for popular names, at the chosen rate.
func (f *fleet) load() {
	names, err := bench.Popular(1000)
	if err != nil || f.rate == 0 {
		return
	}
	for _, e := range f.edges {
		f.loading.Go(func() {
			c, err := dns.Dial("udp", e.addr)
			if err != nil {
				return
			}
			defer c.Close()
			go func() {
				for {
					if _, err := c.ReadMsg(); errors.Is(err, net.ErrClosed) {
						return
					} else if err == nil {
						f.answered.Add(1)
					}
				}
			}()
			const ticks = 200
			ticker := time.NewTicker(time.Second / ticks)
			defer ticker.Stop()
			for i := 0; !f.ending.Load(); {
				<-ticker.C
				for range f.rate / ticks {
					m := new(dns.Msg).SetQuestion(dns.Fqdn(names[i%len(names)]), dns.TypeA)
					if i++; c.WriteMsg(m) == nil {
						f.lost.Add(1)
					}
				}
			}
			time.Sleep(time.Second)
		})
	}
}

func (f *fleet) endLoad() {
	f.ending.Store(true)
	f.loading.Wait()
	fmt.Printf("meanwhile %d of %d queries were answered\n", f.answered.Load(), f.lost.Load())
}

// clearPeaks resets the processes' peaks of memory.
func (f *fleet) clearPeaks() {
	for _, p := range append([]*process{f.control}, f.edges...) {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte("5"), 0o644) // on an error the reported peak is too large
	}
}

func (f *fleet) stop() error {
	var errs []error
	for _, p := range append(f.edges, f.control) {
		if p == nil || p.cmd.Process == nil {
			continue
		}
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		stop := context.AfterFunc(ctx, func() { _ = p.cmd.Process.Kill() })
		if err := p.cmd.Wait(); err != nil {
			text, _ := os.ReadFile(p.out.Name())
			errs = append(errs, fmt.Errorf("%w\n%s", err, text[max(0, len(text)-2000):]))
		}
		stop()
		cancel()
		p.out.Close()
	}
	return errors.Join(errs...)
}

// serveUpstream answers every query for an address with one.
func serveUpstream() (net.PacketConn, error) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(buf[:n]) != nil {
				continue
			}
			m := new(dns.Msg).SetReply(q)
			if q.Question[0].Qtype == dns.TypeA {
				m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300}, A: net.IPv4(192, 0, 2, 1)}}
			}
			if out, err := m.Pack(); err == nil {
				_, _ = c.WriteTo(out, from)
			}
		}
	}()
	return c, nil
}
