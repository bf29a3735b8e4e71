package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/s3"
	"github.com/escape-scanner/escape-scanner/scan"
)

// bucketObject is an output that is put into a bucket when it is whole.
type bucketObject struct {
	*s3.Spool
	app         *app
	service     *s3.Service
	bucket, key string
	contentType string
}

// inBucket is the place of an output in a bucket, which is looked at now.
func (o *opener) inBucket(ctx context.Context, out config.Output) (destination, error) {
	if o.service == nil {
		service, err := o.app.s3Service(o.cfg)
		if err != nil {
			return nil, err
		}
		o.service = service
	}
	bucket, key := out.Object()
	if err := o.service.Check(ctx, bucket, key); err != nil {
		return nil, err
	}
	return &bucketObject{
		Spool: s3.NewSpool(o.app.tempDir()), app: o.app, service: o.service, bucket: bucket, key: key, contentType: contentType(out.Format),
	}, nil
}

func (a *app) s3Service(cfg *config.S3) (*s3.Service, error) {
	o := s3.Options{Endpoint: cfg.Endpoint, Region: cfg.Region, Addressing: cfg.Addressing, Env: a.env}
	if cfg.CA != "" {
		text, err := os.ReadFile(a.path(cfg.CA))
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", config.KeyS3CA, err)
		}
		o.CA = text
	}
	return s3.New(o)
}

// tempDir is where files may be made that nobody else has to see.
func (a *app) tempDir() string {
	if dir := a.env("TMPDIR"); dir != "" {
		return dir
	}
	return os.TempDir()
}

func contentType(format string) string {
	switch format {
	case "json":
		return "application/json"
	case "jsonl":
		return "application/x-ndjson"
	case "sarif":
		return "application/sarif+json"
	case "html":
		return "text/html; charset=utf-8"
	}
	return "text/plain; charset=utf-8"
}

// commit puts the object. Of a run that was interrupted none is left: nobody would see that
// it is not whole.
func (b *bucketObject) commit(ctx context.Context, run scan.Start) error {
	defer b.discard()
	key := config.ObjectKey(b.key, clusterOf(run), run.Time)
	where := "s3://" + b.bucket + "/" + key
	if ctx.Err() != nil {
		return fmt.Errorf("%s: not written, for the run was interrupted", where)
	}
	if err := b.service.Put(ctx, b.bucket, key, b.contentType, b.Spool); err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return fmt.Errorf("%s: not written, for the run was interrupted", where)
		}
		return err
	}
	b.app.complain("note", "wrote "+where)
	return nil
}

func (b *bucketObject) discard() { _ = b.Close() }

// clusterOf is what a run is about, in the key of an object.
func clusterOf(run scan.Start) string {
	if run.Cluster == "" {
		return string(run.Source)
	}
	return run.Cluster
}
