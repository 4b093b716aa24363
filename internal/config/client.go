package config

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"

	"github.com/caarlos0/env/v11"
)

// LoadClient reads the settings of operators' commands, and ignores those of a server. Its error names each invalid variable.
func LoadClient() (*Client, error) { return loadClient(env.ToMap(os.Environ())) }

func loadClient(environ map[string]string) (*Client, error) {
	var c Client
	if err := env.ParseWithOptions(&c, options(environ)); err != nil {
		return nil, err
	}
	var errs []error
	bad := func(variable, right string) { errs = append(errs, Bad(variable, environ[Prefix+variable], right)) }
	u, err := url.Parse(c.API)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.User != nil:
		bad("API", "a URL like https://control.example:9254")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		bad("API", "use https://, because the request contains a token; http:// is allowed only for a control on this machine")
	}
	if c.APIToken != "" && c.APITokenFile != "" {
		bad("API_TOKEN_FILE", "not together with "+Prefix+"API_TOKEN: one of them")
	}
	if (c.APICert == "") != (c.APICertKey == "") {
		bad("API_CERT", "set "+Prefix+"API_CERT and "+Prefix+"API_CERT_KEY together, or neither")
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &c, nil
}

// KeysFolder returns the folder in which control stores its keys.
func (c *Config) KeysFolder() string {
	if c.Keys != "" {
		return c.Keys
	}
	return filepath.Join(c.DataDir, "keys")
}

// KeysFolder returns the folder of the keys of a control on this machine. It reads only the settings that name the folder.
func KeysFolder() (string, error) { return keysFolder(env.ToMap(os.Environ())) }

func keysFolder(environ map[string]string) (string, error) {
	var c Config
	c.Keys, c.DataDir = environ[Prefix+"KEYS"], environ[Prefix+"DATA_DIR"]
	if c.Keys == "" && c.DataDir == "" {
		var err error
		if c.DataDir, err = defaultDataDir(environ); err != nil {
			return "", err
		}
	}
	return c.KeysFolder(), nil
}
