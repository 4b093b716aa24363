package main

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
	"rempart/internal/local"
)

// allowPatience bounds the wait for the running server to read its file.
const allowPatience = 10 * time.Second

func allowCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "allow NAME…", Short: "Never block a name on this server, at once", Args: cobra.MinimumNArgs(1),
		Long: `Add each NAME, with all names below it, to the file of REMPART_ALLOW, have the running server read it, and wait until it answers the name as if no list had it.
To take a name out again, delete its line from the file. Run it as a user who may write that file, root for the packaged settings.
` + runningOnly + `

Exit code: 0 once every name passes, 1 if one is still blocked, 2 on an error.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			of, err := findService(cmd.Context())
			if err != nil {
				return err
			}
			if of.config.Allow == "" {
				return errors.New("the server has no file of names that are never blocked: set REMPART_ALLOW to the path of one, and restart the server")
			}
			var texts []string
			for _, n := range names {
				name, err := readName(n)
				if err != nil {
					return fmt.Errorf("%s: %w", n, err)
				}
				texts = append(texts, blocklist.NameText(name))
			}
			if err := appendNames(of.config.Allow, texts, reason, time.Now()); err != nil {
				return fmt.Errorf("%w (REMPART_ALLOW names the file)", err)
			}
			if of.client == nil {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "added to %s; no server runs here to ask whether it is in effect\n", of.config.Allow)
				return err
			}
			return awaitAllowed(cmd.Context(), cmd.OutOrStdout(), of.client, texts)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, as a comment in the file")
	return cmd
}

// appendNames adds names to the end of an allow file, which may be missing; a name on a line of its own is not added again.
func appendNames(path string, names []string, reason string, now time.Time) error {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	have := map[string]bool{}
	for line := range strings.Lines(string(old)) {
		line, _, _ = strings.Cut(line, "#")
		have[strings.TrimSpace(line)] = true
	}
	comment := "added by rempart allow on " + now.Format(time.DateOnly)
	if reason = strings.Join(strings.Fields(reason), " "); reason != "" {
		comment += ": " + reason
	}
	var b bytes.Buffer
	if len(old) > 0 && old[len(old)-1] != '\n' {
		b.WriteByte('\n')
	}
	for _, name := range names {
		if !have[name] {
			fmt.Fprintf(&b, "%s # %s\n", name, comment)
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	return errors.Join(err, f.Sync(), f.Close())
}

// awaitAllowed has the server read the file, and waits until none of the names is blocked.
func awaitAllowed(ctx context.Context, out io.Writer, client *local.Client, names []string) error {
	if err := client.Reload(ctx); err != nil {
		return err
	}
	end := time.Now().Add(allowPatience)
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
		if time.Now().After(end) {
			fmt.Fprintf(out, "%s: still %s: rempart check --why %s says by what\n", names[i], v.Action, names[i])
			return exitNotAll
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}
