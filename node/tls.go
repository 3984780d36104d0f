package node

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// LoadTLS returns the configuration for every listener and every connection between nodes: both sides show a
// certificate of the cluster's authority. nil with insecure_loopback.
func (c *Config) LoadTLS() (*tls.Config, error) {
	if c.InsecureLoopback {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key)
	if err != nil {
		return nil, fmt.Errorf("load tls.cert and tls.key: %w", err)
	}
	pem, err := os.ReadFile(c.TLS.CA)
	if err != nil {
		return nil, fmt.Errorf("load tls.ca: %w", err)
	}
	authority := x509.NewCertPool()
	if !authority.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("load tls.ca: %s holds no certificate", c.TLS.CA)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		RootCAs:      authority,
		ClientCAs:    authority,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}, nil
}
