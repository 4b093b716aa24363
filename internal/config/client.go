package config

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"

	"github.com/caarlos0/env/v11"
)

// Client is how operators' commands reach the API of a control.
type Client struct {
	API          string `env:"API" envDefault:"http://127.0.0.1:9254" doc:"URL of the operators' API, for \"rempart push\" and the other commands that ask it."`
	APIToken     string `env:"API_TOKEN" secret:"yes" doc:"Token for REMPART_API, as \"rempart token create\" prints it."`
	APITokenFile string `env:"API_TOKEN_FILE" doc:"Path of a file of that token, instead: others on the machine can often read a process's variables, and its command line always."`
	APICA        string `env:"API_CA" doc:"Path of PEM certificates that REMPART_API's is checked against. Empty: the system's."`
	APICert      string `env:"API_CERT" doc:"Path of a client certificate for REMPART_API, PEM, which may stand in for a token."`
	APICertKey   string `env:"API_CERT_KEY" doc:"Path of the key to REMPART_API_CERT, PEM."`
}

// LoadClient reads what operators' commands need, and nothing else: a server's settings are none of theirs. Its error names each bad
// variable.
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
		bad("API", "https: over plain http only a control on this machine is asked, since a token goes along")
	}
	if c.APIToken != "" && c.APITokenFile != "" {
		bad("API_TOKEN_FILE", "not together with "+Prefix+"API_TOKEN: one of them")
	}
	if (c.APICert == "") != (c.APICertKey == "") {
		bad("API_CERT", "certificate and "+Prefix+"API_CERT_KEY together, or neither")
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &c, nil
}

// KeysFolder is where the keys of a control on this machine are, whatever its other settings.
func KeysFolder() (string, error) { return keysFolder(env.ToMap(os.Environ())) }

func keysFolder(environ map[string]string) (string, error) {
	if folder := environ[Prefix+"KEYS"]; folder != "" {
		return folder, nil
	}
	if data := environ[Prefix+"DATA_DIR"]; data != "" {
		return filepath.Join(data, "keys"), nil
	}
	data, err := defaultDataDir(environ)
	return filepath.Join(data, "keys"), err
}
