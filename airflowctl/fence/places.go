package fence

import (
	"fmt"
	"net"

	"github.com/jackc/pgx/v5"
)

// Places names the databases a DSN may lead to, server:port/database each, without login or password. Names are not looked
// up: two names of one server are two places.
func Places(dsn string) ([]string, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("parse DSN: %w", err) // pgx leaves the password out
	}
	c, err := credentialsFrom(dsn, config)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, e := range append([]Endpoint{{c.Host, c.Port}}, c.More...) {
		all = append(all, net.JoinHostPort(e.Host, portText(e.Port))+"/"+c.Database)
	}
	return all, nil
}
