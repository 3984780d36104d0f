package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	// callWithin bounds one call of the management API.
	callWithin = 2 * time.Second
	// answerBytes is the most that is read of an answer: some ten thousand names.
	answerBytes = 4 << 20
	// reasonBytes is the most that is passed on of what the server says is wrong.
	reasonBytes = 200
)

var (
	// errNotFound: what a call was about is not there.
	errNotFound = errors.New("not found")
	// errServer: the server could not do what it was asked for.
	errServer = errors.New("RabbitMQ answers")
)

// management calls RabbitMQ's management API.
type management struct {
	config Config
	client *http.Client
}

// call sends one request; path are the parts after /api, not yet escaped. body and into may be nil.
func (m management) call(ctx context.Context, method string, path []string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	request, err := m.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	response, err := m.client.Do(request)
	if err != nil {
		return fmt.Errorf("call RabbitMQ: %w", err) // it names the URL, which holds no password
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, answerBytes))
	switch {
	case err != nil:
		return fmt.Errorf("read answer of RabbitMQ: %w", err)
	case response.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s %s: %w", method, strings.Join(path, " "), errNotFound)
	case response.StatusCode/100 == 5:
		return fmt.Errorf("%s %s: %w %s: %s", method, strings.Join(path, " "), errServer, response.Status, reason(text))
	case response.StatusCode/100 != 2:
		return fmt.Errorf("%s %s: RabbitMQ answers %s: %s", method, strings.Join(path, " "), response.Status, reason(text))
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("understand answer of RabbitMQ: %w", err)
	}
	return nil
}

func (m management) request(ctx context.Context, method string, path []string, body any) (*http.Request, error) {
	password, err := os.ReadFile(m.config.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("read password: %w", err)
	}
	where := strings.TrimRight(m.config.Management, "/") + "/api"
	for _, part := range path {
		where += "/" + url.PathEscape(part)
	}
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, where, content)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	request.SetBasicAuth(m.config.User, strings.TrimRight(string(password), "\r\n"))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Reason", "fenced by duoflow: its epoch is over") // what the closed connection is told, and the server's log
	return request, nil
}

// reason is what an answer says is wrong, for people; it may come from anybody who sits at that address.
func reason(text []byte) string {
	var answer struct{ Reason string }
	if json.Unmarshal(text, &answer) != nil || answer.Reason == "" {
		return "no reason given"
	}
	return fmt.Sprintf("%.*q", reasonBytes, answer.Reason)
}
