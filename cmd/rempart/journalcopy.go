package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rempart/internal/config"
	"rempart/internal/durable"
	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

func journalCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "journal", Short: "Move the journal of a control",
		Long: "The journal holds all that control published, with receipts, held change sets, tokens, servers and the audit trail.",
	}
	return withCommands(cmd, journalCopyCommand())
}

func journalCopyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "copy [FOLDER]", Short: "Copy the journal from a folder to an external NATS cluster", Args: cobra.MaximumNArgs(1),
		Long: `Copy the journal that control kept in FOLDER, by default the folder "journal" in REMPART_DATA_DIR, to the NATS cluster of REMPART_NATS_URL: records,
snapshots, receipts, held change sets, tokens, servers and the audit trail. Run it with control's own settings, as control's user, while control is stopped.

The copy has the same epoch, versions and sequence numbers, so that every server continues where it was. At the end all of it is read back and compared. An interrupted
copy is continued by running the command again; until it is complete, control refuses to start on the cluster. A cluster that holds another journal is refused.
FOLDER is kept as a backup, and marked: a control without REMPART_NATS_URL does not continue it.

Exit code: 0 if the cluster holds the whole journal, 2 if not.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := config.LoadFrom(config.Environ())
			if err != nil {
				return err
			}
			if c.NATSURL == "" {
				return errors.New("REMPART_NATS_URL is not set: it names the cluster that the journal is copied to")
			}
			folder := journalFolder(c)
			if len(args) > 0 {
				folder = args[0]
			}
			log := slog.New(slog.NewTextHandler(redacting{cmd.ErrOrStderr()}, &slog.HandlerOptions{Level: slog.LevelWarn}))
			ctx, _, stop := signals(cmd.Context())
			defer stop()
			return copyJournal(ctx, redacting{cmd.OutOrStdout()}, c, folder, log)
		},
	}
}

// journalFolder is where control keeps its journal without REMPART_NATS_URL.
func journalFolder(c *config.Config) string { return filepath.Join(c.DataDir, "journal") }

// copyJournal copies a folder's journal to the cluster of the settings, and writes what was copied.
func copyJournal(ctx context.Context, out io.Writer, c *config.Config, folder string, log *slog.Logger) error {
	if _, err := os.Stat(filepath.Join(folder, "jetstream")); err != nil {
		return fmt.Errorf("copy the journal from %s: it holds no journal: name the folder \"journal\" of control's data folder: %w", folder, err)
	}
	authorities, err := newAuthorities(c, log)
	if err != nil {
		return err
	}
	from, err := stream.Open(ctx, stream.Config{Dir: folder, Log: log, Copying: true})
	if err != nil {
		return fmt.Errorf("copy the journal from %s: stop control first: %w", folder, err)
	}
	defer from.Close()
	target := externalJournal(c, authorities, log)
	target.Copying = true
	to, err := stream.Open(ctx, target)
	if err != nil {
		return fmt.Errorf("copy the journal to REMPART_NATS_URL: %w", err)
	}
	defer to.Close()
	last := time.Now()
	report, err := stream.Copy(ctx, from, to, func(records uint64) {
		if time.Since(last) >= 5*time.Second {
			last = time.Now()
			fmt.Fprintf(out, "%s copied\n", count(int(records), "record"))
		}
	})
	switch {
	case errors.Is(err, stream.ErrForeign):
		return fmt.Errorf("copy the journal to REMPART_NATS_URL: %w: nothing was changed there; name a cluster or an account without a journal, or remove the streams that begin with "+
			"REMPART_, KV_REMPART_ and OBJ_REMPART with \"nats stream rm\" if nothing needs them", err)
	case err != nil:
		return fmt.Errorf("copy the journal to REMPART_NATS_URL: %w: the copy is not complete, and control does not start on it; run the same command again to continue", err)
	}
	if err := markCopied(folder); err != nil {
		return fmt.Errorf("the copy is complete, but %s was not marked as copied: never start control without REMPART_NATS_URL: %w", folder, err)
	}
	record, _, err := journal.ReadRecord(report.Last.Data)
	if err != nil {
		return fmt.Errorf("the journal's last record: %w", err)
	}
	fmt.Fprintf(out, "copied and compared: %s, %s, %s, %s (tokens, receipts, held change sets, servers); %d of them were missing\n",
		count(int(report.Records), "record"), count(int(report.Audits), "audit record"), count(report.Objects, "object"), count(report.Values, "value"), report.Written)
	fmt.Fprintf(out, "epoch %d, version %d, hash %s\n", record.Epoch, record.Version, journal.HashOf(report.Last.Data))
	fmt.Fprintln(out, "start control with REMPART_NATS_URL set")
	return nil
}

// copiedMark is the file in the folder of a journal that says that it continues elsewhere.
const copiedMark = "copied"

func markCopied(folder string) error {
	text := "this journal was copied to an external NATS cluster on " + moment(time.Now()) + "\n"
	return durable.WriteBytes(filepath.Join(folder, copiedMark), []byte(text))
}

// refuseMovedJournal returns an error where a start would leave the journal behind: on an empty cluster while the data folder holds a journal, or
// in the data folder after that journal was copied to a cluster.
func refuseMovedJournal(ctx context.Context, c *config.Config, open *stream.Stream) error {
	folder := journalFolder(c)
	if c.NATSURL == "" {
		text, err := os.ReadFile(filepath.Join(folder, copiedMark))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return fmt.Errorf("%s: %s: set REMPART_NATS_URL; to continue in this folder all the same, without what was published on the cluster since, remove the file %s",
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
