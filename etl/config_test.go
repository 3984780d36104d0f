package etl

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl/nldn"
	"github.com/duoflow/duoflow/etl/tile"
	"github.com/duoflow/duoflow/etl/warehouse"
)

func TestWindow(t *testing.T) {
	for _, one := range []struct {
		window Window
		now    string
		want   []tile.Chunk
	}{
		{Window{From: "2018", To: "2019"}, "2026-11-25", []tile.Chunk{"2018", "2019"}},
		{Window{From: "2018", To: latest}, "2020-03-31", []tile.Chunk{"2018", "2019", "2020-01", "2020-02"}},
		{Window{From: "2018", To: latest}, "2020-01-01", []tile.Chunk{"2018", "2019"}},
		{Window{From: "2019-11", To: "2020-01"}, "2026-11-25", []tile.Chunk{"2019-11", "2019-12", "2020-01"}},
	} {
		now, err := time.Parse(time.DateOnly, one.now)
		if err != nil {
			t.Fatal(err)
		}
		if got := one.window.chunks(now); !slices.Equal(got, one.want) {
			t.Errorf("%+v at %s: %v, want %v", one.window, one.now, got, one.want)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "5": 5, "16MiB": 16 << 20, "2 GiB": 2 << 30, "1TiB": 1 << 40, "3KiB": 3 << 10} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
		var again Size
		if err := again.UnmarshalText([]byte(got.String())); err != nil || again != got {
			t.Errorf("%s is spelled %s, which reads as %d", text, got, again)
		}
	}
	for _, text := range []string{"", "16MB", "-1", "x", "9999999999TiB"} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %d", text, got)
		}
	}
}

func TestProblemsAreToldTogether(t *testing.T) {
	_, err := ParseConfig([]byte(`
pipline: x
driver: airflow
source: {kind: file, window: {from: 18}}
stages: [a]
engine: {kind: sparrow, threads: many, spark: {master: yarn, settings: [spark.x]}}
load: {cell: 1000, readers: a}
quality: {max_bad_rows: 2}
`), "/")
	var p *Problems
	if !errors.As(err, &p) {
		t.Fatalf("%v, want Problems", err)
	}
	for _, key := range []string{"pipline: unknown key", "airflow.endpoint", "source.kind", "source.window.from", "stages: want keys", "engine.kind: \"sparrow\" is unknown", "engine.spark: master: \"yarn\"",
		"engine.threads", "load.cell", "load.readers: want a list", "quality.max_bad_rows"} {
		if !slices.ContainsFunc(p.List, func(line string) bool { return strings.HasPrefix(line, key) }) {
			t.Errorf("nothing about %q in\n%v", key, err)
		}
	}
	if len(p.List) != 11 {
		t.Errorf("%d problems, want 11: one mistake is one problem\n%v", len(p.List), err)
	}
	for text, want := range map[string]string{
		"driver: crontab":                                                       "there are builtin and airflow",
		"airflow: {endpoint: http://airflow}":                                   "is for driver airflow",
		"driver: airflow\nload: {dsn_env: DSN}":                                 "load.dsn_env: is for driver builtin",
		"driver: airflow\nairflow: {username_env: U}":                           "airflow.username_env: this and password_env, or neither",
		"driver: airflow\nairflow: {endpoint: http://airflow, connection: a/b}": "airflow.connection",
	} {
		if _, err := ParseConfig([]byte(text), "/"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if _, err := ParseConfig([]byte("load: {dsn: \"postgres://u:hidden@h\"\n"), "/"); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("broken text: %v; want an error that does not quote it", err)
	}
}

func TestExitCodes(t *testing.T) {
	for _, one := range []struct {
		err  error
		want int
	}{
		{nil, ExitOK}, {errors.New("x"), ExitFailed}, {&Problems{}, ExitUsage}, {fmt.Errorf("a: %w", ErrQuality), ExitQuality},
		{warehouse.ErrShrunk, ExitQuality}, {nldn.ErrHeader, ExitQuality}, {nldn.ErrDamaged, ExitFailed}, {ErrPartial, ExitPartial},
		{errors.Join(ErrPartial, ErrQuality), ExitPartial}, {errors.Join(ErrPartial, warehouse.ErrFenced), ExitFenced},
	} {
		if got := ExitCode(one.err); got != one.want {
			t.Errorf("%v: %d, want %d", one.err, got, one.want)
		}
	}
}
