package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// The time to wait for answers of a cluster's servers: after the last answer, and in total.
const (
	quietTime = time.Second
	askTime   = 5 * time.Second
)

// checkSync refuses a cluster in which a server acknowledges writes before they are on disk. JetStream's default is to sync every two minutes: if the machines
// of a cluster lose power together, or one returns with an older disk, acknowledged writes are lost. Only the system account may ask. It returns the names of
// the servers that answered; nil if it could not ask.
func checkSync(ctx context.Context, c Config) (names []string, err error) {
	if c.SystemCredentials == "" {
		return nil, nil
	}
	nc, err := dialSystem(c)
	if err != nil {
		return nil, fmt.Errorf("connect to %s as the system account: %w", redact(c.URL), err)
	}
	defer nc.Close()
	expected, err := countServers(ctx, nc)
	if err != nil {
		return nil, err
	}
	answers, err := askServers(ctx, nc, "$SYS.REQ.SERVER.PING.VARZ", expected)
	if err != nil {
		return nil, err
	}
	var unsynced []string
	for _, a := range answers {
		names = append(names, a.Server.Name)
		if js := a.Data.JetStream.Config; js != nil && !js.SyncAlways {
			unsynced = append(unsynced, fmt.Sprintf("%s (%s)", a.Server.Name, js.SyncInterval))
		}
	}
	slices.Sort(unsynced)
	switch {
	case len(unsynced) > 0:
		return nil, fmt.Errorf("these servers acknowledge writes before they are on disk, and sync at intervals: %s: "+
			"set jetstream { sync_interval: always } in their configuration and restart them", strings.Join(unsynced, ", "))
	case len(answers) < expected:
		return nil, fmt.Errorf("of %d servers only %d reported whether they sync every write: try again when all answer", expected, len(answers))
	}
	return names, nil
}

// checkSyncOfPeers calls checkSync again for the servers that now store the journal, because some may have joined since. A server that is down cannot answer;
// this is logged, and is no error.
func (s *Stream) checkSyncOfPeers(ctx context.Context) error {
	if s.cfg.SystemCredentials == "" {
		s.log.Warn("journal: without credentials of the system account it is unknown whether the servers sync every write before they " +
			"acknowledge it: make sure that each has jetstream { sync_interval: always }")
		return nil
	}
	asked, err := checkSync(ctx, s.cfg)
	if err != nil {
		return err
	}
	there, err := s.js.Stream(ctx, journalStream)
	if err != nil {
		return fmt.Errorf("stream %s: %w", journalStream, err)
	}
	info := there.CachedInfo().Cluster
	if info == nil {
		return nil
	}
	for _, peer := range info.Replicas {
		switch {
		case slices.Contains(asked, peer.Name):
		case peer.Offline:
			s.log.Warn("journal: a server is down, so that it is unknown whether it syncs every write before it acknowledges it: "+
				"make sure that it has jetstream { sync_interval: always }", "server", peer.Name)
		default:
			return fmt.Errorf("server %s, which keeps the journal, did not report whether it syncs every write: try again when it answers", peer.Name)
		}
	}
	return nil
}

// countServers returns the largest number of active servers that a server reports.
func countServers(ctx context.Context, nc *nats.Conn) (int, error) {
	answers, err := askServers(ctx, nc, "$SYS.REQ.SERVER.PING", 0)
	if err != nil {
		return 0, err
	}
	n := len(answers)
	for _, a := range answers {
		n = max(n, a.Statsz.ActiveServers)
	}
	return n, nil
}

// serverAnswer holds the parsed fields of the answers to both requests.
type serverAnswer struct {
	Server struct {
		Name string `json:"name"`
		ID   string `json:"id"`
	} `json:"server"`
	Statsz struct {
		ActiveServers int `json:"active_servers"`
	} `json:"statsz"`
	Data struct {
		JetStream struct {
			Config *struct {
				SyncAlways   bool          `json:"sync_always"`
				SyncInterval time.Duration `json:"sync_interval"`
			} `json:"config"`
		} `json:"jetstream"`
	} `json:"data"`
}

// askServers sends a request to all servers and returns their answers: the expected number of them, or, for 0, all that arrive within quietTime of each other.
func askServers(ctx context.Context, nc *nats.Conn, subject string, expected int) ([]serverAnswer, error) {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("ask the servers: %w", err)
	}
	defer sub.Unsubscribe()
	if err := nc.PublishRequest(subject, inbox, nil); err != nil {
		return nil, fmt.Errorf("ask the servers: %w", err)
	}
	end := time.Now().Add(askTime)
	byID := map[string]serverAnswer{}
	for expected == 0 || len(byID) < expected {
		wait := quietTime
		if expected > 0 || len(byID) == 0 {
			wait = time.Until(end)
		}
		m, err := sub.NextMsg(max(min(wait, time.Until(end)), time.Millisecond))
		if errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) || ctx.Err() != nil {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("ask the servers: %w", err)
		}
		var a serverAnswer
		if m.Header.Get(statusHeader) == "" && json.Unmarshal(m.Data, &a) == nil && a.Server.ID != "" {
			byID[a.Server.ID] = a
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(byID) == 0 {
		return nil, errors.New("no server answered the system account: are the credentials those of the system account?")
	}
	all := make([]serverAnswer, 0, len(byID))
	for _, a := range byID {
		all = append(all, a)
	}
	return all, nil
}

// dialSystem connects as the system account, and ignores the users in the URLs.
func dialSystem(c Config) (*nats.Conn, error) {
	servers, credentials := withoutUsers(c.URL), c.SystemCredentials
	opts := []nats.Option{nats.Name("rempart control, check")}
	if _, err := os.Stat(credentials); err != nil {
		user, password, ok := strings.Cut(credentials, ":")
		if !ok {
			return nil, fmt.Errorf("its credentials are neither a file that can be read (%w) nor user:password", err)
		}
		opts, credentials = append(opts, nats.UserInfo(user, password)), ""
	}
	return dial(servers, credentials, c.RootCAs, c.Log, opts...)
}

// withoutUsers returns a list of servers without users and passwords.
func withoutUsers(servers string) string { return eachURL(servers, func(u *url.URL) { u.User = nil }) }

// redact returns a list of servers without passwords, for messages.
func redact(servers string) string {
	return eachURL(servers, func(u *url.URL) {
		if u.User != nil {
			u.User = url.User("xxxxx")
		}
	})
}

// eachURL calls change with each server of a list, and returns the changed list. It leaves out invalid URLs.
func eachURL(servers string, change func(*url.URL)) string {
	var out []string
	for server := range strings.SplitSeq(servers, ",") {
		server = strings.TrimSpace(server)
		if !strings.Contains(server, "://") {
			server = "nats://" + server
		}
		if u, err := url.Parse(server); err == nil {
			change(u)
			out = append(out, u.String())
		}
	}
	return strings.Join(out, ",")
}
