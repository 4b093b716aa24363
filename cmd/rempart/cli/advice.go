package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// WithAdvice returns the text of an error. If the text ends with the system's message about a file that is missing or that this user may not open, it adds advice.
// A text that continues after that message has advice of its own.
func WithAdvice(err error) string {
	text := err.Error()
	failed := (*fs.PathError)(nil)
	if !errors.As(err, &failed) || !strings.HasSuffix(text, failed.Err.Error()) {
		return text
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("%s: create %s, or correct the path", text, failed.Path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("%s: give this user access to %s, run the command as another user, or name another path", text, failed.Path)
	}
	return text
}
