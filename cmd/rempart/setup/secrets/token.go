package secrets

import (
	"fmt"
	"io"
	"os"
	"strings"

	"rempart/internal/durable"
)

// ReadTokenFile reads the token of a server from a regular file, since it is read again when it changes.
func ReadTokenFile(path string) (string, error) {
	f, err := durable.OpenRegular(path)
	if err != nil {
		return "", fmt.Errorf("the token: %w", err)
	}
	defer f.Close()
	return tokenIn(f, path)
}

// ReadToken reads the token of a command. The file may be a pipe, for example from a password manager.
func ReadToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("the token: %w", err)
	}
	defer f.Close()
	return tokenIn(f, path)
}

func tokenIn(f io.Reader, path string) (string, error) {
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("the token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || len(text) > maxToken || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("the token: %s does not hold exactly one token: write the output of \"rempart token create\" to it", path)
	}
	return token, nil
}

// maxToken is the largest size of a file of a token, in bytes.
const maxToken = 4 << 10
