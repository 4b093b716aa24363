// Package secrets reads the secrets that the settings name: tokens, and secrets that several servers share. It also creates files for secrets, and warns about files
// that others can read.
package secrets

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
)

// MaxFile is the largest part of a file of keys that is read, in bytes.
const MaxFile = 1 << 20

// WarnReadable logs a warning if every user can read or change a file that holds a secret. The parameter what names the secret.
func WarnReadable(log *slog.Logger, what, path string) {
	if warning := ReadableByOthers(what, path); warning != "" {
		log.Warn(warning)
	}
}

// ReadableByOthers returns a warning if users other than the owner and the group can read or change a file that holds a secret; otherwise "".
func ReadableByOthers(what, path string) string {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return fmt.Sprintf("%s: every user of this machine can read or change %s (mode %04o): run \"chmod 600 %s\" (640 if its group must read it), and replace the secret if others could have read it", what, path, mode, path)
	}
	return ""
}

// NewFile creates a file for a secret, which only its owner may read. If the file exists, the error wraps fs.ErrExist.
func NewFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s exists already, and is not overwritten: remove it, or choose another name: %w", path, fs.ErrExist)
	}
	return f, err
}
