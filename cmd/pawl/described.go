package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/secret"
	"github.com/pawlrun/pawl/service"
)

// described makes a service of each description in a folder. Its {{secrets.name}} are those of the run's tenant, its {{env.NAME}}
// those of this program.
func (c *called) described(a *app, folder string, http service.HTTPOptions, secrets *secret.Store) error {
	if folder == "" {
		return nil
	}
	if info, err := os.Stat(folder); err != nil {
		return err
	} else if !info.IsDir() {
		return fmt.Errorf("%s is no folder", folder)
	}
	files, err := filesAt(folder)
	if err != nil {
		return err
	}
	from := map[string]string{}
	var failed error
	for _, file := range files {
		made, err := a.describe(file, http, secrets)
		shown := filepath.ToSlash(file)
		var faults service.Faults
		switch {
		case errors.As(err, &faults):
			for _, f := range faults {
				failed = errors.Join(failed, errors.New(problemLine(shown, api.Finding{Line: f.Line, Column: f.Column, Message: f.Message, Hint: f.Hint})))
			}
		case err != nil:
			failed = errors.Join(failed, fmt.Errorf("%s: %w", shown, err))
		case from[made.Name()] != "":
			failed = errors.Join(failed, fmt.Errorf("%s: %s has a service %q too", shown, from[made.Name()], made.Name()))
		case c.set[made.Name()] != nil || c.unset[made.Name()] != "":
			failed = errors.Join(failed, fmt.Errorf("%s: %q is a service of pawl; give it another name", shown, made.Name()))
		default:
			from[made.Name()] = shown
			c.set[made.Name()] = made
		}
	}
	return failed
}

// nowhere stands for the address of a service where flows are not run, and the environment has none.
const nowhere = "https://none.invalid"

// describe reads one description.
func (a *app) describe(file string, http service.HTTPOptions, secrets *secret.Store) (*service.Described, error) {
	data, err := readDescription(file)
	if err != nil {
		return nil, err
	}
	lacks := false
	opt := service.DescribeOptions{HTTP: http,
		Secret: func(ctx context.Context, name string) (string, error) {
			if secrets == nil {
				return "", noSecrets
			}
			value, err := secrets.Value(ctx, pawl.InfoOf(ctx).Tenant, name)
			return value, unknownSecret(name, err)
		},
		Env: func(name string) (string, bool) {
			value := a.env(name)
			lacks = lacks || value == ""
			return value, value != ""
		}}
	made, err := service.Describe(data, opt)
	if err != nil && lacks && secrets == nil { // a call is made nowhere here
		opt.Env = func(string) (string, bool) { return "none", true }
		opt.BaseURL = nowhere
		return service.Describe(data, opt)
	}
	return made, err
}

// maxDescription is how large a file of a description may be.
const maxDescription = 4 << 20

func readDescription(file string) ([]byte, error) {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is no file")
	case info.Size() > maxDescription:
		return nil, fmt.Errorf("it has %d bytes; a description has at most %d", info.Size(), maxDescription)
	}
	return os.ReadFile(file)
}
