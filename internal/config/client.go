package config

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/caarlos0/env/v11"
)

// Client is how operators' commands reach the API of a control.
type Client struct {
	API          string `env:"API" envDefault:"http://127.0.0.1:9254" doc:"URL of the operators' API, for \"rempart push\" and the other commands that ask it."`
	APIToken     string `env:"API_TOKEN" doc:"Token for REMPART_API, as \"rempart token create\" tells it."`
	APITokenFile string `env:"API_TOKEN_FILE" doc:"Path of a file of that token, instead: others on the machine can often read a process's variables, and its command line always."`
	APICA        string `env:"API_CA" doc:"Path of PEM certificates that REMPART_API's is checked against. Empty: the system's."`
	APICert      string `env:"API_CERT" doc:"Path of a client certificate for REMPART_API, PEM, which may stand in for a token."`
	APICertKey   string `env:"API_CERT_KEY" doc:"Path of the key to REMPART_API_CERT, PEM."`
}

// Operating is what operators' commands read: a server's settings, which may be other ones here, are none of theirs.
type Operating struct {
	Client
	keys    string
	environ map[string]string
}

// LoadClient reads what operators' commands need, and nothing else. Its error names each bad variable.
func LoadClient() (*Operating, error) { return loadClient(env.ToMap(os.Environ())) }

func loadClient(environ map[string]string) (*Operating, error) {
	o := &Operating{environ: environ, keys: environ[Prefix+"KEYS"]}
	if err := env.ParseWithOptions(&o.Client, env.Options{Prefix: Prefix, Environment: environ}); err != nil {
		return nil, err
	}
	var errs []error
	bad := func(variable, right string) { errs = append(errs, Bad(variable, environ[Prefix+variable], right)) }
	u, err := url.Parse(o.API)
	switch {
	case err != nil || u.Host == "" || !slices.Contains([]string{"https", "http"}, u.Scheme) || u.RawQuery != "" || u.User != nil:
		bad("API", "a URL like https://control.example:9254")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		bad("API", "https: over plain http only a control on this machine is asked, since a token goes along")
	}
	if o.APIToken != "" && o.APITokenFile != "" {
		errs = append(errs, errors.New(Prefix+"API_TOKEN and "+Prefix+"API_TOKEN_FILE: one of them"))
	}
	if (o.APICert == "") != (o.APICertKey == "") {
		bad("API_CERT", "certificate and "+Prefix+"API_CERT_KEY together, or neither")
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return o, nil
}

// KeysFolder is where the keys of a control on this machine are.
func (o *Operating) KeysFolder() (string, error) {
	if o.keys != "" {
		return o.keys, nil
	}
	data := o.environ[Prefix+"DATA_DIR"]
	if data == "" {
		var err error
		if data, err = defaultDataDir(o.environ); err != nil {
			return "", err
		}
	}
	return filepath.Join(data, "keys"), nil
}
