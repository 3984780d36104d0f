package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

const (
	authorityValidity = 3650 * 24 * time.Hour
	backdate          = time.Hour // certificates are valid at once on a host whose clock is behind
	gossipKeyBytes    = 32        // AES-256
)

// pair is a certificate and its key.
type pair struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// makeTLS makes all files of a cluster in memory.
func makeTLS(plan tlsPlan, nodes []nodeAddresses) ([]file, error) {
	authority, err := sign(template("duoflow authority", "", authorityValidity), nil)
	if err != nil {
		return nil, err
	}
	files, err := authority.files("ca")
	if err != nil {
		return nil, err
	}
	leaves := []*x509.Certificate{template(plan.operator, "admin", plan.validity)}
	for _, node := range nodes {
		leaves = append(leaves, nodeTemplate(node, plan.validity))
	}
	for _, leaf := range leaves {
		signed, err := sign(leaf, &authority)
		if err != nil {
			return nil, err
		}
		more, err := signed.files(leaf.Subject.CommonName)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	return append(files, gossipKey(), contextsFor(plan, nodes)), nil
}

// template is a certificate for clients; unit is its role, and "" makes it an authority.
func template(name, unit string, validity time.Duration) *x509.Certificate {
	now := time.Now()
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(validity),
		BasicConstraintsValid: true,
	}
	if unit == "" {
		t.IsCA = true
		t.MaxPathLenZero = true
		t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		return t
	}
	t.Subject.OrganizationalUnit = []string{unit}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return t
}

// nodeTemplate is a certificate for both sides of a connection.
func nodeTemplate(node nodeAddresses, validity time.Duration) *x509.Certificate {
	t := template(node.name, "node", validity)
	t.DNSNames = append([]string{node.name}, node.names...)
	t.IPAddresses = node.ips
	t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	return t
}

// sign makes a key and its certificate; without an authority it signs itself.
func sign(t *x509.Certificate, authority *pair) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, fmt.Errorf("make key of %s: %w", t.Subject.CommonName, err)
	}
	if t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return pair{}, fmt.Errorf("make serial number: %w", err)
	}
	issuer := pair{certificate: t, key: key}
	if authority != nil {
		issuer = *authority
	}
	der, err := x509.CreateCertificate(rand.Reader, t, issuer.certificate, &key.PublicKey, issuer.key)
	if err != nil {
		return pair{}, fmt.Errorf("sign certificate of %s: %w", t.Subject.CommonName, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return pair{}, fmt.Errorf("parse certificate of %s: %w", t.Subject.CommonName, err)
	}
	return pair{certificate: certificate, key: key}, nil
}

func (p pair) files(name string) ([]file, error) {
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return nil, fmt.Errorf("marshal key of %s: %w", name, err)
	}
	return []file{
		{name + ".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.certificate.Raw}), 0o644},
		{name + ".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600},
	}, nil
}

func gossipKey() file {
	key := make([]byte, gossipKeyBytes)
	rand.Read(key) // never fails: it ends the program instead
	return file{"gossip.key", []byte(base64.StdEncoding.EncodeToString(key) + "\n"), 0o600}
}

// contextsFor is a contexts file for the operator, with paths relative to the same folder.
func contextsFor(plan tlsPlan, nodes []nodeAddresses) file {
	var endpoints []string
	for _, node := range nodes {
		endpoints = append(endpoints, fmt.Sprintf("%q", net.JoinHostPort(node.main, adminPort)))
	}
	text := fmt.Sprintf("current: cluster\ncontexts:\n  cluster:\n    endpoints: [%s]\n    ca: ca.pem\n    cert: %s.pem\n    key: %s.key\n",
		strings.Join(endpoints, ", "), plan.operator, plan.operator)
	return file{"duoctl.yaml", []byte(text), 0o644}
}
