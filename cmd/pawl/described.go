package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/secret"
	"github.com/pawlrun/pawl/service"
)

// described makes a service of each description in a folder. Its {{secrets.name}} are those of the run's tenant, its {{env.NAME}}
// those of this program: with lacking, a service that lacks one of them is not there, which is no error.
func (c *called) described(a *app, folder string, http service.HTTPOptions, secrets *secret.Store, lacking bool) error {
	if folder == "" {
		return nil
	}
	if info, err := os.Stat(folder); err != nil {
		return err
	} else if !info.IsDir() {
		return fmt.Errorf("%s is no folder", folder)
	}
	files, err := descriptionsIn(folder)
	if err != nil {
		return err
	}
	from := map[string]string{}
	var failed error
	for _, file := range files {
		made, missing, err := a.describe(file, http, secrets, lacking || secrets == nil)
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
			if len(missing) > 0 && secrets != nil {
				c.unset[made.Name()] = "set " + strings.Join(missing, " and ")
				continue
			}
			c.set[made.Name()] = made
		}
	}
	return failed
}

// descriptionsIn lists the files of a folder of descriptions.
func descriptionsIn(folder string) (files []string, err error) {
	err = filepath.WalkDir(folder+string(filepath.Separator), func(at string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() && at != folder+string(filepath.Separator) {
				return fs.SkipDir
			}
		case !entry.IsDir() && slices.Contains(flowEndings, strings.ToLower(filepath.Ext(at))):
			files = append(files, at)
		}
		return nil
	})
	return files, err
}

// nowhere stands for the address of a service where flows are not run, and the environment has none.
const nowhere = "https://none.invalid"

// describe reads one description. With lacking, what it lacks of the environment is no error, and told.
func (a *app) describe(file string, http service.HTTPOptions, secrets *secret.Store, lacking bool) (_ *service.Described, missing []string, _ error) {
	data, err := readDescription(file)
	if err != nil {
		return nil, nil, err
	}
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
			if value == "" && !slices.Contains(missing, name) {
				missing = append(missing, name)
			}
			return value, value != ""
		}}
	made, err := service.Describe(data, opt)
	if err != nil && len(missing) > 0 && lacking { // a call is made nowhere
		opt.Env = func(string) (string, bool) { return "none", true }
		opt.BaseURL = nowhere
		made, err = service.Describe(data, opt)
	}
	return made, missing, err
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
