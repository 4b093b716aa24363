package stream

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
)

// dial connects, and reconnects without limit when the connection is lost. Publishing without a connection fails at once: a buffered message could be written
// after its writer gave up.
func dial(url, credentials string, rootCAs func() (*x509.CertPool, error), log *slog.Logger, opts ...nats.Option) (*nats.Conn, error) {
	all := []nats.Option{
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 750*time.Millisecond),
		nats.ReconnectBufSize(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.SyncQueueLen(2 * maxBatch), // a buffer of this size is allocated for each subscription
		nats.PingInterval(3 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.Timeout(5 * time.Second),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Debug("journal: connection lost", "err", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { log.Debug("journal: reconnected", "server", nc.ConnectedUrlRedacted()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("journal: connection error", "err", err) }),
	}
	if credentials != "" {
		all = append(all, nats.UserCredentials(credentials))
	}
	if rootCAs != nil {
		if _, err := rootCAs(); err != nil {
			return nil, err
		}
		all = append(all, func(o *nats.Options) error {
			o.RootCAsCB, o.Secure = rootCAs, true
			return nil
		})
	}
	return nats.Connect(url, append(all, opts...)...)
}

// openExternal connects to a cluster.
func (s *Stream) openExternal(ctx context.Context) error {
	c := s.cfg
	if _, err := checkSync(ctx, c); err != nil {
		return err
	}
	main, err := dial(c.URL, c.Credentials, c.RootCAs, c.Log, nats.Name("rempart control"), nats.CustomInboxPrefix(controlInbox))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", redact(c.URL), err)
	}
	if s.Reader, err = newReader(main, c.Log); err != nil {
		return err
	}
	// Reports use a connection of their own, because many reports must not delay acknowledgements.
	s.reports, err = dial(c.URL, c.Credentials, c.RootCAs, c.Log, nats.Name("rempart control, reports"))
	if err != nil {
		s.reports = main
		return fmt.Errorf("connect to %s: %w", redact(c.URL), err)
	}
	return nil
}
