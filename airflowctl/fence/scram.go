package fence

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

const (
	scramRounds = 4096 // what Postgres uses itself
	scramSalt   = 16   // bytes
)

// secret is a password and what the server gets to know of it.
type secret struct{ password, verifier string }

// newSecret makes a password of 130 random bits.
func newSecret() (secret, error) {
	password := rand.Text()
	verifier, err := Verifier(password)
	return secret{password, verifier}, err
}

// Verifier returns the SCRAM-SHA-256 verifier (RFC 5803) of a password, as PASSWORD '...' of CREATE
// ROLE takes it. With it the server can check the password but never sees it, nor do its logs. The
// password must be printable ASCII, which needs no SASLprep.
func Verifier(password string) (string, error) {
	for _, r := range password {
		if r < ' ' || r > '~' {
			return "", fmt.Errorf("make verifier: the password has characters other than printable ASCII")
		}
	}
	salt := make([]byte, scramSalt)
	rand.Read(salt)
	salted, err := pbkdf2.Key(sha256.New, password, salt, scramRounds, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("make verifier: %w", err)
	}
	stored := sha256.Sum256(keyed(salted, "Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramRounds, b64(salt), b64(stored[:]), b64(keyed(salted, "Server Key"))), nil
}

func keyed(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
