package spark

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrMissing: Spark, or something that it needs, is not there, or not of a version that fits. Its text says what to do.
var ErrMissing = errors.New("spark cannot start")

// install is what was found on this machine.
type install struct {
	home, python, java string // folder, interpreter, interpreter
	jars               []string
	spark, hadoop, jdk string // versions
}

func missing(format string, a ...any) error {
	return fmt.Errorf("%w: %w", ErrMissing, fmt.Errorf(format, a...))
}

const leastJava = 17

// find looks for all that a start needs, so that what is missing is told in words and not by a stack of Java's.
func find(ctx context.Context, c Config) (install, error) {
	var i install
	var err error
	if i.python, err = exec.LookPath(c.Python); err != nil {
		return i, missing("python %s is not there (engine.spark.python): %w", c.Python, err)
	}
	if i.java, i.jdk, err = findJava(ctx, c); err != nil {
		return i, err
	}
	if i.home, err = findHome(ctx, c, i.python); err != nil {
		return i, err
	}
	if i.spark = versionOf(i.home, "spark-core_2.1?-*.jar"); !strings.HasPrefix(i.spark, "4.") {
		return i, missing("spark %s in %s: this is for Spark 4 (engine.spark.home)", i.spark, i.home)
	}
	i.hadoop = versionOf(i.home, "hadoop-client-api-*.jar")
	return i, i.findJars(c.Jars)
}

func findJava(ctx context.Context, c Config) (path, version string, err error) {
	folder := c.Java
	if folder == "" {
		folder = c.Env("JAVA_HOME")
	}
	path = filepath.Join(folder, "bin", "java")
	if folder == "" {
		if path, err = exec.LookPath("java"); err != nil {
			return "", "", missing("java is not there: install Java %d (Debian: openjdk-17-jre-headless), or name its folder in engine.spark.java", leastJava)
		}
	}
	out, err := output(ctx, path, "-version")
	if err != nil {
		return "", "", missing("java at %s: %w", path, err)
	}
	m := regexp.MustCompile(`version "((\d+)[^"]*)"`).FindStringSubmatch(out)
	if m == nil {
		return "", "", missing("java at %s does not say which version it is: %.100q", path, out)
	}
	if major, atoi := strconv.Atoi(m[2]); atoi != nil || major < leastJava {
		return "", "", missing("java at %s is %s: Spark 4 wants %d or newer; name another in engine.spark.java or JAVA_HOME", path, m[1], leastJava)
	}
	return path, m[1], nil
}

func findHome(ctx context.Context, c Config, python string) (string, error) {
	home := c.Home
	if home == "" {
		home = c.Env("SPARK_HOME")
	}
	if home == "" {
		out, err := output(ctx, python, "-c", "import os, pyspark; print(os.path.dirname(pyspark.__file__))")
		if err != nil {
			return "", missing("neither engine.spark.home nor SPARK_HOME is set, and %s has no pyspark: %w", python, err)
		}
		home = strings.TrimSpace(out)
	}
	home, err := filepath.Abs(home)
	if err != nil {
		return "", missing("%w", err)
	}
	if _, err := os.Stat(filepath.Join(home, "bin", "spark-submit")); err != nil {
		return "", missing("there is no Spark in %s (engine.spark.home): %w", home, err)
	}
	return home, nil
}

// versionOf reads the version from the name of a jar of Spark's; "" if there is none.
func versionOf(home, pattern string) string {
	found, _ := filepath.Glob(filepath.Join(home, "jars", pattern)) // the pattern is right
	if len(found) == 0 {
		return ""
	}
	name := strings.TrimSuffix(filepath.Base(found[0]), ".jar")
	return name[strings.LastIndex(name, "-")+1:]
}

// findJars takes the jars for S3. One of another version than Spark's Hadoop fails late, and with words that help nobody.
func (i *install) findJars(folder string) error {
	where := folder
	if folder == "" {
		where = filepath.Join(i.home, "jars")
	}
	all, err := filepath.Glob(filepath.Join(where, "*.jar"))
	if err != nil {
		return missing("%w", err)
	}
	at := slices.IndexFunc(all, func(name string) bool { return strings.HasPrefix(filepath.Base(name), "hadoop-aws-") })
	if at < 0 {
		return missing("no hadoop-aws-%s.jar in %s (engine.spark.jars): without it Spark does not read S3", i.hadoop, where)
	}
	if name := filepath.Base(all[at]); name != "hadoop-aws-"+i.hadoop+".jar" {
		return missing("%s in %s does not fit Spark %s, whose Hadoop is %s", name, where, i.spark, i.hadoop)
	}
	if folder == "" {
		return nil // Spark has them already
	}
	for n, name := range all {
		if all[n], err = filepath.Abs(name); err != nil {
			return missing("%w", err)
		}
	}
	i.jars = all
	return nil
}

// output is what a program says, on both ways, within half a minute.
func output(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	text := string(out)
	if err != nil {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		return text, fmt.Errorf("%w: %s", err, lines[len(lines)-1])
	}
	return text, nil
}

// reach looks whether a cluster's master answers, and says which of this machine's addresses leads there.
func (c Config) reach(ctx context.Context) (host string, err error) {
	if !c.remote() {
		return "127.0.0.1", nil
	}
	d := net.Dialer{Timeout: 5 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", strings.TrimPrefix(c.Master, "spark://"))
	if err != nil {
		return "", missing("no master answers at %s (engine.spark.master): %w", c.Master, err)
	}
	defer conn.Close()
	host, _, err = net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		return "", missing("%w", err)
	}
	return host, nil
}
