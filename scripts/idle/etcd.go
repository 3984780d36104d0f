package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/duoflow/duoflow/scripts/etcd"
	"github.com/duoflow/duoflow/scripts/lab"
)

// startEtcd starts three members without clients, which is the least they can cost. They watch each other as closely as
// the daemons do in `lan`.
func (s *stage) startEtcd(ctx context.Context) error {
	bin, err := etcd.Build(ctx, "etcd")
	if err != nil {
		return err
	}
	cluster := etcd.Cluster{
		Bin: bin, Data: filepath.Join(s.lab.Dir, "etcd"), Hosts: hosts, Addr: s.lab.Net.Addr,
		Beat: 50 * time.Millisecond, Election: 300 * time.Millisecond,
	}
	for _, host := range hosts {
		p, err := s.lab.Host(host).Start(lab.Spec{Name: "etcd", Args: cluster.Member(host)})
		if err != nil {
			return err
		}
		s.watched = append(s.watched, watched{"etcd " + etcd.Version + " " + host, false, p})
	}
	return nil
}
