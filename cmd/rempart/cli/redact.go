package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"rempart/internal/config"
)

// Redact returns a writer that passes text on to w without the passwords and tokens in it. Each call of Write gets whole lines.
func Redact(w io.Writer) io.Writer { return redactor{w} }

type redactor struct{ w io.Writer }

func (r redactor) Write(p []byte) (int, error) {
	if _, err := io.WriteString(r.w, config.Redact(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WarnUnknown writes a warning for each variable that has Rempart's prefix and is no setting, and for misspelt settings if misspelt is true.
func WarnUnknown(cmd *cobra.Command, environ map[string]string, misspelt bool) {
	near, texts := config.Unknown(environ)
	if misspelt {
		texts = append(near, texts...)
	}
	for _, text := range texts {
		fmt.Fprintln(cmd.ErrOrStderr(), "rempart: ignored:", text)
	}
}
