package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/aymanbagabas/go-osc52/v2"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/scan"
)

// exporter writes what a screen shows to a file that is not there yet.
func (a *app) exporter(cfg *config.Config) func(ctx context.Context, format, path string, events []scan.Event) error {
	return func(ctx context.Context, format, path string, events []scan.Event) (err error) {
		file, err := os.OpenFile(a.path(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // A report is read by others too.
		if err != nil {
			return err
		}
		defer func() {
			if err = errors.Join(err, file.Close()); err != nil {
				err = errors.Join(err, os.Remove(file.Name()))
			}
		}()
		out := bufio.NewWriter(file)
		h := a.newHandler(cfg, format, out)
		for _, e := range events {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := h.Handle(e); err != nil {
				return fmt.Errorf("%s: %w", format, err)
			}
		}
		return out.Flush()
	}
}

// copyText puts text where the user pastes from: tmux has a buffer of its own, which it
// hands on, and other terminals understand the sequence OSC 52, over ssh too.
func (a *app) copyText(ctx context.Context, terminal io.Writer, text string) error {
	if a.env("TMUX") != "" {
		load := exec.CommandContext(ctx, "tmux", "load-buffer", "-w", "-")
		load.Env, load.Stdin = a.environ, strings.NewReader(text)
		if out, err := load.CombinedOutput(); err != nil {
			return fmt.Errorf("tmux: %w: %s", err, strings.TrimSpace(string(out)))
		}
		return nil
	}
	_, err := osc52.New(text).WriteTo(terminal)
	return err
}
