package config

import (
	"fmt"
	"net/url"
	"os"
	"slices"

	"golang.org/x/net/http/httpproxy"
)

// Proxy returns the proxy through which a URL is fetched, nil for none. It reads the usual variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or their
// lower-case forms. An invalid proxy URL is an error, whose text leaves the value out because it may hold a password.
func Proxy() func(*url.URL) (*url.URL, error) {
	for _, variable := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		if err := checkProxy(variable, os.Getenv(variable)); err != nil {
			return func(*url.URL) (*url.URL, error) { return nil, err }
		}
	}
	return httpproxy.FromEnvironment().ProxyFunc()
}

func checkProxy(variable, value string) error {
	if value == "" {
		return nil
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" { // a host and a port without a scheme is common
		u, err = url.Parse("http://" + value)
	}
	if err != nil || u.Hostname() == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
		return fmt.Errorf("the variable %s is no URL of a proxy, like http://proxy.example:3128", variable)
	}
	return nil
}
