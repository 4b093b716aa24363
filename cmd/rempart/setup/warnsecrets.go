package setup

import (
	"log/slog"
	"net/url"
	"slices"

	"rempart/blocklist/feed"
	"rempart/cmd/rempart/setup/secrets"
	"rempart/internal/config"
)

// WarnSecrets logs a warning for each file of the settings that holds a secret and that every user can read or change. Control checks the files of its keys
// when it opens them.
func WarnSecrets(c *config.Config, log *slog.Logger) {
	for _, file := range []struct{ what, path string }{
		{"REMPART_PUSH_KEY", c.PushKey}, {"REMPART_CONTROL_TOKEN_FILE", c.ControlTokenFile}, {"REMPART_RPZ_KEYS", c.RPZKeys}, {"REMPART_COOKIE_SECRETS", c.CookieSecrets},
		{"REMPART_CONTINUE_KEY_FILE", c.ContinueKeyFile},
		{"REMPART_NATS_CREDENTIALS", c.NATSCreds}, {"REMPART_NATS_SYSTEM_CREDENTIALS", c.NATSSystem},
	} {
		if file.path != "" {
			secrets.WarnReadable(log, file.what, file.path) // credentials of the form "user:password" are not a file
		}
	}
	if feeds, err := ReadFeeds(c.Feeds); err == nil && slices.ContainsFunc(feeds, holdsSecret) {
		secrets.WarnReadable(log, "REMPART_FEEDS, with a password or a TSIG key", c.Feeds)
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
