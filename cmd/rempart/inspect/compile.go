package inspect

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"rempart/blocklist"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
	"rempart/cmd/rempart/setup"
	"rempart/internal/durable"
)

func compileCommand() *cobra.Command {
	var asJSON bool
	var path string
	cmd := &cobra.Command{
		Use:   "compile [-o FILE]",
		Short: "Write the set of the configured lists as a snapshot",
		Long: `Compile the set of the configured lists as the server would, and write it to FILE as a snapshot. FILE is
replaced as a whole or not at all. The data folder is only read; FILE cannot be in the data folder of a server.
` + readsOnly + `

Exit code: 0, or 2 if a list could not be fetched or read (the snapshot is written without it), or on another error.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			began := time.Now()
			in, err := prepareInspection(cmd, false, &path)
			if err != nil {
				return err
			}
			if err := refuseServerFolder(path, in.Config.DataDir); err != nil {
				return err
			}
			if err := in.start(cmd); err != nil {
				return err
			}
			in.warn(cmd, "the set is compiled")
			view, err := in.view()
			if err != nil {
				return err
			}
			c, err := writeSnapshot(path, view)
			if err != nil {
				return err
			}
			c.Seconds = time.Since(began).Seconds()
			if asJSON {
				err = cli.JSON(cmd.OutOrStdout()).Encode(c)
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, version %d, %d bytes (%.1f per name), in %.1f s\n",
					c.File, report.Count(c.Names, "name"), c.Version, c.Bytes, c.PerName, c.Seconds)
			}
			if err != nil {
				return err
			}
			return in.exitCode()
		},
	}
	cmd.Flags().StringVarP(&path, "output", "o", "set.snapshot", "the file to write")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as a JSON object")
	return cmd
}

// compileResult is the output of compile.
type compileResult struct {
	File    string  `json:"file"`
	Version uint64  `json:"version"`
	Names   int     `json:"names"`
	Bytes   int64   `json:"bytes"`
	PerName float64 `json:"bytes_per_name"`
	Seconds float64 `json:"seconds"` // includes reading the lists
}

// writeSnapshot writes a view to a snapshot that includes its overlay.
func writeSnapshot(path string, view *blocklist.View) (compileResult, error) {
	st := view.Stats()
	c := compileResult{File: path, Version: st.Version, Names: st.Names}
	err := durable.WriteFile(path, func(w io.Writer) error {
		out := &countingWriter{Writer: w}
		err := view.Compact(out, blocklist.Info{Version: st.Version, Created: st.Created, Content: view.Info().Content})
		c.Bytes = out.written
		return err
	})
	if st.Names > 0 {
		c.PerName = float64(c.Bytes) / float64(st.Names)
	}
	return c, err
}

// countingWriter counts the bytes that are written.
type countingWriter struct {
	io.Writer
	written int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.written += int64(n)
	return n, err
}

// refuseServerFolder returns an error for a file in the data folder, or in the data folder of a running server.
func refuseServerFolder(path, dataDir string) error {
	folder, data := resolvePath(filepath.Dir(path)), resolvePath(dataDir)
	for at := folder; ; at = filepath.Dir(at) {
		if at == data {
			return fmt.Errorf("%s is in the data folder %s of the server: name a file in another folder with -o", path, dataDir)
		}
		if at == filepath.Dir(at) {
			break
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "lock")); err != nil {
		return nil
	}
	unlock, err := durable.Lock(folder)
	if errors.Is(err, durable.ErrLocked) {
		return fmt.Errorf("%s is in the data folder of a running server: name a file in another folder with -o", path)
	}
	if err == nil {
		unlock()
	}
	return nil // another error means that the folder is not a server's
}

// resolvePath returns an absolute path without symbolic links, as far as the path exists.
func resolvePath(path string) string {
	path = setup.AbsolutePath(path)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}
