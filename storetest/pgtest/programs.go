//go:build unix

package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

const debianPrograms = "/usr/lib/postgresql/*/bin" // the star is the major version

var errNoPostgres = errors.New("found no initdb and postgres, neither in PATH nor in " + debianPrograms +
	": install PostgreSQL (Debian: apt-get install postgresql; macOS: brew install postgresql), or set " +
	EnvURL + " to the URL of a server where databases may be created")

// programs is an installed PostgreSQL and the user to run it as.
type programs struct {
	dir        string
	credential *syscall.Credential // nil: the user of this process
}

func findPrograms() (programs, error) {
	dir, err := programDir(debianPrograms)
	if err != nil {
		return programs{}, err
	}
	credential, err := unprivileged()
	if err != nil {
		return programs{}, err
	}
	return programs{dir: dir, credential: credential}, nil
}

// command is a program to run in dir. It leads a process group, so that it can be ended with its children, and sees none of this process's
// environment, where a variable such as PGPORT would change what it does.
func (p programs) command(dir, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.dir, name), args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: p.credential}
	return cmd
}

func (p programs) user() string {
	if p.credential == nil {
		return "this user"
	}
	return "user postgres"
}

// programDir returns the directory that holds initdb and postgres: the one in PATH, else the newest of those that match pattern.
func programDir(pattern string) (string, error) {
	if initdb, err := exec.LookPath("initdb"); err == nil {
		if dir := filepath.Dir(initdb); isFile(filepath.Join(dir, "postgres")) {
			return filepath.Abs(dir)
		}
	}
	dirs, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	newest, found := -1, ""
	for _, dir := range dirs {
		version, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err == nil && version > newest && isFile(filepath.Join(dir, "initdb")) && isFile(filepath.Join(dir, "postgres")) {
			newest, found = version, dir
		}
	}
	if found == "" {
		return "", errNoPostgres
	}
	return found, nil
}

// unprivileged returns the user that root runs PostgreSQL as, and nil for everyone else.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL refuses to run as root, and its own user can't be found: %w; install the package postgresql, or run the tests as another user", err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user postgres: %w", err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user postgres: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
