package lab_test

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"time"
)

// noiseEnv makes this test binary a source of noise: a noise in JSON.
const noiseEnv = "DUOFLOW_LAB_TEST_NOISE"

// noise is thrown at ports until the process is killed. Each kind of it goes to each port up to fifty times a second.
type noise struct {
	TCP  []string // host:port
	UDP  []string
	Cert string // of somebody whom the authority knows and the port does not want
	Key  string
	Hold []int // silent connections held open at each port of TCP
}

// pace is between two pieces of noise of one kind at one port.
const pace = 20 * time.Millisecond

func makeNoise(text string) {
	var n noise
	pair, err := tls.Certificate{}, json.Unmarshal([]byte(text), &n)
	if err == nil {
		pair, err = tls.LoadX509KeyPair(n.Cert, n.Key)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i, to := range n.TCP {
		go crowd(to, n.Hold[i])
		for _, piece := range [][]byte{randomBytes(64 << 10), []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), {}} {
			go knock(to, func(conn net.Conn) { _, _ = conn.Write(piece) })
		}
		go knock(to, func(conn net.Conn) { shake(conn) })
		go knock(to, func(conn net.Conn) { shake(conn, pair) })
	}
	for _, to := range n.UDP {
		go spray(to)
	}
	select {}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	b[0] = 0xff // no TLS record begins so
	return b
}

// comeBack is when who was sent away is there again.
const comeBack = 5 * time.Second

// crowd holds silent connections open; who closes one gets another.
func crowd(to string, hold int) {
	for range hold {
		go func() {
			for {
				if conn, err := net.Dial("tcp", to); err == nil {
					_, _ = conn.Read(make([]byte, 1))
					_ = conn.Close()
				}
				time.Sleep(comeBack)
			}
		}()
		time.Sleep(time.Millisecond)
	}
}

func knock(to string, say func(net.Conn)) {
	for {
		if conn, err := net.DialTimeout("tcp", to, time.Second); err == nil {
			_ = conn.SetDeadline(time.Now().Add(time.Second))
			say(conn)
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
		time.Sleep(pace)
	}
}

func shake(conn net.Conn, certificates ...tls.Certificate) {
	secured := tls.Client(conn, &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"h2"}, Certificates: certificates,
	})
	if secured.Handshake() == nil {
		_, _ = secured.Read(make([]byte, 1)) // a refusal comes after the handshake
	}
}

// spray sends packets that gossip must not believe.
func spray(to string) {
	conn, err := net.Dial("udp", to)
	if err != nil {
		return
	}
	for {
		_, _ = conn.Write(randomBytes(1 + int(time.Now().UnixNano()%1400)))
		time.Sleep(pace)
	}
}
