package certificates

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"rempart/internal/durable"
)

// ReadChain reads the certificates of a PEM file in their order. It needs no private key.
func ReadChain(path string) (chain []*x509.Certificate, err error) {
	text, err := durable.ReadRegular(path, maxCertificates)
	if err != nil {
		return nil, err
	}
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of %s: %w", len(chain)+1, path, err)
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("%s holds no PEM certificate", path)
	}
	return chain, nil
}
