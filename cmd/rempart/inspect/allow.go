package inspect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/running"
	"rempart/internal/local"
)

// allowPatience is how long "rempart allow" waits for the running server to apply its file.
const allowPatience = 10 * time.Second

func allowCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "allow NAME…", Short: "Never block a name on this server, effective at once", Args: cobra.MinimumNArgs(1),
		Long: `Add each NAME, with all names below it, to the file of REMPART_ALLOW, make the running server read the file, and wait until the server does not block the name any more.
To remove a name again, delete its line from the file. Run it as a user who may write that file, root for the packaged settings.
` + running.ClientOnly + `

Exit code: 0 once every name passes, 1 if one is still blocked, 2 on an error.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			of, err := running.Find(cmd.Context())
			if err != nil {
				return err
			}
			if of.Config.Allow == "" {
				return errors.New("the server has no file of names that are never blocked: set REMPART_ALLOW to the path of one, and restart the server")
			}
			var texts []string
			for _, n := range names {
				name, _, err := format.Indicator(n)
				if err != nil {
					return fmt.Errorf("%s cannot be allowed: %w; nothing was added", n, format.Explain(err))
				}
				texts = append(texts, blocklist.NameText(name))
			}
			if texts, err = addable(cmd.Context(), cmd.OutOrStdout(), of.Client, texts); err != nil || len(texts) == 0 {
				return err
			}
			if err := appendNames(of.Config.Allow, texts, reason, time.Now()); err != nil {
				return fmt.Errorf("%w (REMPART_ALLOW names the file)", err)
			}
			if of.Client == nil {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "added to %s; no server runs here, so that it is not known whether the change is in effect\n", of.Config.Allow)
				return err
			}
			return awaitAllowed(cmd.Context(), cmd.OutOrStdout(), of.Client, texts)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, as a comment in the file")
	return cmd
}

// addable returns the names without those that the running server answers by itself: allowing them has no effect.
func addable(ctx context.Context, out io.Writer, client *local.Client, names []string) (left []string, err error) {
	for _, name := range names {
		if client == nil {
			return names, nil
		}
		v, err := client.Check(ctx, name)
		if err != nil {
			return nil, err
		}
		if v.Action == blocklist.Pass.String() && v.Note != "" {
			fmt.Fprintf(out, "%s: not added: %s\n", name, v.Note)
			continue
		}
		left = append(left, name)
	}
	return left, nil
}

// appendNames appends names to an allow file, which may be missing. A name that already has a line of its own is not added again. A file that is not UTF-8 is
// converted to UTF-8.
func appendNames(path string, names []string, reason string, now time.Time) error {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r, err := format.Text(bytes.NewReader(old))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	have := map[string]bool{}
	for line := range bytes.Lines(text) {
		have[string(bytes.TrimSpace(format.CutComment(bytes.Clone(line))))] = true
	}
	comment := "added by rempart allow on " + now.Format(time.DateOnly)
	if reason = strings.Join(strings.Fields(reason), " "); reason != "" {
		comment += ": " + reason
	}
	var added bytes.Buffer
	if len(text) > 0 && text[len(text)-1] != '\n' {
		added.WriteByte('\n')
	}
	for _, name := range names {
		if !have[name] {
			have[name] = true
			fmt.Fprintf(&added, "%s # %s\n", name, comment)
		}
	}
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if !bytes.HasSuffix(old, text) { // the file was decoded: names in UTF-8 cannot be appended to its bytes
		flags = os.O_CREATE | os.O_WRONLY | os.O_TRUNC
		added = *bytes.NewBuffer(append(text, added.Bytes()...))
	}
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(added.Bytes())
	return errors.Join(err, f.Sync(), f.Close())
}

// awaitAllowed makes the server read the file, and waits until none of the names is blocked.
func awaitAllowed(ctx context.Context, out io.Writer, client *local.Client, names []string) error {
	if err := client.Reload(ctx); err != nil {
		return err
	}
	end, failed := time.Now().Add(allowPatience), false
	for i := 0; i < len(names); {
		v, err := client.Check(ctx, names[i])
		if err != nil {
			return err
		}
		if v.Action == blocklist.Allowed.String() {
			fmt.Fprintf(out, "%s: allowed\n", names[i])
			i++
			continue
		}
		if time.Now().Before(end) {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if v.Action == blocklist.BlockedBy.String() {
			fmt.Fprintf(out, "%s: still blocked: \"rempart check --why %s\" shows why\n", names[i], names[i])
		} else {
			fmt.Fprintf(out, "%s: passes, but the server has not applied the file: its log says why\n", names[i])
		}
		failed = true
		i++
	}
	if failed {
		return cli.Negative
	}
	return nil
}
