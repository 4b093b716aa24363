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

// How long answers of a cluster's servers are waited for: after the last that came, and in all.
const (
	quietTime = time.Second
	askTime   = 5 * time.Second
)

// checkSync refuses a cluster one of whose servers acknowledges writes before they are on disk: JetStream's own default is to
// sync every two minutes, and a cluster whose machines lose power together, or one of which comes back with an older disk, then
// loses what it acknowledged. Only the system account may ask. It returns the names of the servers that answered; nil when they were not asked.
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
		return nil, fmt.Errorf("of %d servers only %d said whether they sync every write: open again when all answer", expected, len(answers))
	}
	return names, nil
}

// checkSyncAgain is checkSync for the servers that now keep the journal: some may have come after they were first asked. One that
// is down cannot answer, which is said, and is no reason to be down as well.
func (s *Stream) checkSyncOfPeers(ctx context.Context) error {
	if s.cfg.SystemCredentials == "" {
		s.log.Warn("journal: without credentials of the system account it is not known whether the servers sync every write before they " +
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
			s.log.Warn("journal: a server is down, so that it is not known whether it syncs every write before it acknowledges it: "+
				"make sure that it has jetstream { sync_interval: always }", "server", peer.Name)
		default:
			return fmt.Errorf("server %s, which keeps the journal, did not say whether it syncs every write: open again when it answers", peer.Name)
		}
	}
	return nil
}

// activeServers is how many servers there are, as the one that knows of most says.
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

// serverAnswer is what is read of the answers to both questions.
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

// ask puts a question to all servers and collects their answers: the expected number, or, for 0, until no more come.
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

// dialSystem connects as the system account, whatever user the URLs carry.
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

// bare is a list of servers without users and passwords.
func withoutUsers(servers string) string { return eachURL(servers, func(u *url.URL) { u.User = nil }) }

// redact is a list of servers without passwords, for messages.
func redact(servers string) string {
	return eachURL(servers, func(u *url.URL) {
		if u.User != nil {
			u.User = url.User("xxxxx")
		}
	})
}

// eachURL changes the servers of a list; what is no URL is left out.
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
