package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"slices"

	"rempart/blocklist/feed"
	"rempart/internal/config"
)

// maxSecretFile is the largest part of a file of keys that is read, in bytes.
const maxSecretFile = 1 << 20

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

// WarnSecrets logs a warning for each file of the settings that holds a secret and that every user can read or change. Control checks the files of its keys
// when it opens them.
func WarnSecrets(c *config.Config, log *slog.Logger) {
	for _, file := range []struct{ what, path string }{
		{"REMPART_PUSH_KEY", c.PushKey}, {"REMPART_CONTROL_TOKEN_FILE", c.ControlTokenFile}, {"REMPART_RPZ_KEYS", c.RPZKeys}, {"REMPART_COOKIE_SECRETS", c.CookieSecrets},
		{"REMPART_CONTINUE_KEY_FILE", c.ContinueKeyFile},
		{"REMPART_NATS_CREDENTIALS", c.NATSCreds}, {"REMPART_NATS_SYSTEM_CREDENTIALS", c.NATSSystem},
	} {
		if file.path != "" {
			WarnReadable(log, file.what, file.path) // credentials of the form "user:password" are not a file
		}
	}
	if feeds, err := ReadFeeds(c.Feeds); err == nil && slices.ContainsFunc(feeds, holdsSecret) {
		WarnReadable(log, "REMPART_FEEDS, with a password or a TSIG key", c.Feeds)
	}
}

// holdsSecret reports whether the entry of a feed holds a password or a key.
func holdsSecret(f feed.Feed) bool {
	u, err := url.Parse(f.URL)
	if err != nil {
		return f.TSIG != ""
	}
	_, password := u.User.Password()
	return f.TSIG != "" || password
}

// NewSecretFile creates a file for a secret, which only its owner may read. If the file exists, the error wraps fs.ErrExist.
func NewSecretFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s exists already, and is not overwritten: remove it, or choose another name: %w", path, fs.ErrExist)
	}
	return f, err
}
