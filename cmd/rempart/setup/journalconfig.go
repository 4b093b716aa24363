package setup

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rempart/cmd/rempart/report"
	"rempart/cmd/rempart/setup/reload"
	"rempart/internal/config"
	"rempart/internal/durable"
	"rempart/internal/journal/stream"
)

// ClusterConfig returns the configuration of a journal on the cluster of REMPART_NATS_URL. authorities may be nil.
func ClusterConfig(c *config.Config, authorities *reload.Value[*x509.CertPool], log *slog.Logger) stream.Config {
	sc := stream.Config{URL: c.NATSURL, Credentials: c.NATSCreds, SystemCredentials: c.NATSSystem, Replicas: c.NATSReplicas, Log: log}
	if authorities != nil {
		sc.RootCAs = func() (*x509.CertPool, error) { return authorities.Get(), nil }
	}
	return sc
}

// JournalFolder returns the folder in which control stores its journal if REMPART_NATS_URL is not set.
func JournalFolder(c *config.Config) string { return filepath.Join(c.DataDir, "journal") }

// copiedMark is the name of the file that marks a journal's folder as copied to a cluster.
const copiedMark = "copied"

// MarkJournalCopied marks the journal in folder as copied to a cluster, so that RefuseMovedJournal refuses to continue it.
func MarkJournalCopied(folder string) error {
	text := "this journal was copied to an external NATS cluster on " + report.Moment(time.Now()) + "\n"
	return durable.WriteBytes(filepath.Join(folder, copiedMark), []byte(text))
}

// RefuseMovedJournal returns an error if a start would ignore an existing journal: on an empty cluster while the data folder holds a journal, or in the data
// folder after its journal was copied to a cluster.
func RefuseMovedJournal(ctx context.Context, c *config.Config, open *stream.Stream) error {
	folder := JournalFolder(c)
	if c.NATSURL == "" {
		text, err := os.ReadFile(filepath.Join(folder, copiedMark))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return fmt.Errorf("%s: %s: set REMPART_NATS_URL; to continue in this folder all the same, without the records that were published on the cluster since, remove the file %s",
			folder, strings.TrimSpace(string(text)), filepath.Join(folder, copiedMark))
	}
	if _, err := open.Last(ctx, ""); !errors.Is(err, stream.ErrNone) {
		return err
	}
	if _, err := os.Stat(filepath.Join(folder, "jetstream")); err != nil {
		return nil
	}
	return fmt.Errorf("the cluster of REMPART_NATS_URL holds no journal, and %s holds one: copy it with \"rempart journal copy\" first, with the same settings; "+
		"to begin an empty journal instead, without its tokens and change sets, move %s elsewhere", folder, folder)
}
