package operate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
	"rempart/cmd/rempart/setup"
	"rempart/cmd/rempart/setup/certificates"
	"rempart/internal/config"
	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

func journalCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "journal", Short: "Move the journal of a control",
		Long: "The journal holds all that control published, with receipts, held change sets, tokens, servers and the audit trail.",
	}
	return cli.WithCommands(cmd, journalCopyCommand())
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
			folder := setup.JournalFolder(c)
			if len(args) > 0 {
				folder = args[0]
			}
			log := slog.New(slog.NewTextHandler(cli.Redact(cmd.ErrOrStderr()), &slog.HandlerOptions{Level: slog.LevelWarn}))
			sig := cli.CatchSignals(cmd.Context())
			defer sig.Stop()
			ctx := sig.Context
			return copyJournal(ctx, cli.Redact(cmd.OutOrStdout()), c, folder, log)
		},
	}
}

// copyJournal copies a folder's journal to the cluster of the settings, and writes a summary.
func copyJournal(ctx context.Context, out io.Writer, c *config.Config, folder string, log *slog.Logger) error {
	if _, err := os.Stat(filepath.Join(folder, "jetstream")); err != nil {
		return fmt.Errorf("copy the journal from %s: it holds no journal: name the folder \"journal\" of control's data folder: %w", folder, err)
	}
	authorities, err := certificates.NewAuthorities(c, log)
	if err != nil {
		return err
	}
	from, err := stream.Open(ctx, stream.Config{Dir: folder, Log: log, Copying: true})
	if err != nil {
		return fmt.Errorf("copy the journal from %s: stop control first: %w", folder, err)
	}
	defer from.Close()
	target := setup.ClusterConfig(c, authorities, log)
	target.Copying = true
	to, err := stream.Open(ctx, target)
	if err != nil {
		return fmt.Errorf("copy the journal to REMPART_NATS_URL: %w", err)
	}
	defer to.Close()
	last := time.Now()
	copied, err := stream.Copy(ctx, from, to, func(records uint64) {
		if time.Since(last) >= 5*time.Second {
			last = time.Now()
			fmt.Fprintf(out, "%s copied\n", report.Count(int(records), "record"))
		}
	})
	switch {
	case errors.Is(err, stream.ErrForeign):
		return fmt.Errorf("copy the journal to REMPART_NATS_URL: %w: nothing was changed there; name a cluster or an account without a journal, or remove the streams that begin with "+
			"REMPART_, KV_REMPART_ and OBJ_REMPART with \"nats stream rm\" if nothing needs them", err)
	case err != nil:
		return fmt.Errorf("copy the journal to REMPART_NATS_URL: %w: the copy is not complete, and control does not start on it; run the same command again to continue", err)
	}
	if err := setup.MarkJournalCopied(folder); err != nil {
		return fmt.Errorf("the copy is complete, but %s was not marked as copied: never start control without REMPART_NATS_URL: %w", folder, err)
	}
	record, _, err := journal.ReadRecord(copied.Last.Data)
	if err != nil {
		return fmt.Errorf("the journal's last record: %w", err)
	}
	fmt.Fprintf(out, "copied and compared: %s, %s, %s, %s (tokens, receipts, held change sets, servers); %d of them were missing\n",
		report.Count(int(copied.Records), "record"), report.Count(int(copied.Audits), "audit record"), report.Count(copied.Objects, "object"), report.Count(copied.Values, "value"), copied.Written)
	fmt.Fprintf(out, "epoch %d, version %d, hash %s\n", record.Epoch, record.Version, journal.HashOf(copied.Last.Data))
	fmt.Fprintln(out, "start control with REMPART_NATS_URL set")
	return nil
}
