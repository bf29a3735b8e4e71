package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io"
	"time"
)

// writeTar writes entries in their order, each of root and of the time given.
func writeTar(w io.Writer, entries []entry, at time.Time) error {
	tw := tar.NewWriter(w)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Mode: int64(e.mode.Perm()), Size: int64(len(e.data)), Typeflag: tar.TypeReg, ModTime: at, Format: tar.FormatPAX}
		if e.mode.IsDir() {
			header.Name, header.Typeflag = e.name+"/", tar.TypeDir
		}
		if err := tw.WriteHeader(header); err != nil {
			return err
		}
		if _, err := tw.Write(e.data); err != nil {
			return err
		}
	}
	return tw.Close()
}

// tarGz is the archive for people with tar.
func tarGz(entries []entry, at time.Time) ([]byte, error) {
	var out bytes.Buffer
	// Without a name and a time in its header: they would say who compressed it when.
	gz := gzip.NewWriter(&out)
	if err := writeTar(gz, entries, at); err != nil {
		return nil, err
	}
	if err := gz.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// zipped is the archive for people without.
func zipped(entries []entry, at time.Time) ([]byte, error) {
	var out bytes.Buffer
	zw := zip.NewWriter(&out)
	for _, e := range entries {
		if e.mode.IsDir() {
			continue // A file's name makes its directory.
		}
		header := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: at}
		header.SetMode(e.mode.Perm())
		w, err := zw.CreateHeader(header)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
