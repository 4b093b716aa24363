package config

import (
	"fmt"
	"net/url"
	"os"
	"slices"

	"golang.org/x/net/http/httpproxy"
)

// Proxy returns a function that returns the proxy for a URL, or nil if the URL is fetched without a proxy. Proxy reads the usual variables HTTP_PROXY,
// HTTPS_PROXY and NO_PROXY, or the same names in lower case. If a variable holds an invalid proxy URL, the function always returns an error. The text of the
// error omits the URL, which may contain a password.
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
	if err != nil || u.Host == "" { // a proxy is often written as host:port, without a scheme
		u, err = url.Parse("http://" + value)
	}
	if err != nil || u.Hostname() == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
		return fmt.Errorf("the variable %s is not the URL of a proxy, such as http://proxy.example:3128", variable)
	}
	return nil
}
