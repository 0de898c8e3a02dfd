// What Go's archive/tar writes, by the standard library and without the code under test.
//
//	gotar items    a layer on standard output of the items on standard input, JSON: mtime, owner, and items with name,
//	               data and path in hexadecimal digits, type, mode, size if not that of the data, owner or null
//	gotar layer    nix2container's layer of the paths on standard input, JSON: path, options with rewrite and perms
//	gotar replace  on standard input JSON: triples of an expression, a text and a replacement; what becomes of the texts
package main

import (
	"archive/tar"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

type owner struct {
	Uid, Gid     int
	Uname, Gname string
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func unhex(text string) []byte {
	data, err := hex.DecodeString(text)
	check(err)
	return data
}

func write(out *tar.Writer, header tar.Header, by owner, mtime int64, data []byte) {
	header.Uid, header.Gid, header.Uname, header.Gname = by.Uid, by.Gid, by.Uname, by.Gname
	header.ModTime = time.Unix(mtime, 0)
	check(out.WriteHeader(&header))
	_, err := out.Write(data)
	check(err)
}

func items() {
	var input struct {
		Mtime int64
		Owner owner
		Items []struct {
			Name, Type, Data, Path string
			Mode                   int64
			Size                   *int64
			Owner                  *owner
		}
	}
	check(json.NewDecoder(os.Stdin).Decode(&input))
	out := tar.NewWriter(os.Stdout)
	for _, item := range input.Items {
		data := unhex(item.Data)
		if item.Path != "" {
			var err error
			data, err = os.ReadFile(string(unhex(item.Path)))
			check(err)
		}
		by := input.Owner
		if item.Owner != nil {
			by = *item.Owner
		}
		header := tar.Header{Name: string(unhex(item.Name)), Mode: item.Mode}
		switch item.Type {
		case "folder":
			header.Typeflag, data = tar.TypeDir, nil
		case "link":
			header.Typeflag, header.Linkname, data = tar.TypeSymlink, string(data), nil
		case "file":
			header.Typeflag, header.Size = tar.TypeReg, int64(len(data))
		}
		if item.Size != nil {
			// Only the header: nobody writes that much.
			header.Size = *item.Size
			write(out, header, by, input.Mtime, nil)
			return
		}
		write(out, header, by, input.Mtime, data)
	}
	check(out.Close())
}

type node struct {
	source string
	info   fs.FileInfo
	header tar.Header
	by     owner
}

type perm struct {
	Regex, Mode string
	owner
}

func layer() {
	var input []struct {
		Path    string
		Options struct {
			Rewrite struct{ Regex, Repl string }
			Perms   []perm
		}
	}
	check(json.NewDecoder(os.Stdin).Decode(&input))
	nodes := map[string]node{}
	for _, each := range input {
		check(filepath.Walk(each.Path, func(source string, info fs.FileInfo, err error) error {
			check(err)
			name := source
			if rewrite := each.Options.Rewrite; rewrite.Regex != "" {
				name = regexp.MustCompile(rewrite.Regex).ReplaceAllString(source, rewrite.Repl)
			}
			if name != "" {
				nodes[path.Clean(name)] = describe(source, info, each.Options.Perms)
			}
			return nil
		}))
	}
	for name := range nodes {
		for parent := path.Dir(name); parent != "." && parent != name; name, parent = parent, path.Dir(parent) {
			if _, there := nodes[parent]; !there {
				header := tar.Header{Typeflag: tar.TypeDir, Mode: 0o755}
				nodes[parent] = node{header: header, by: owner{Uname: "root", Gname: "root"}}
			}
		}
	}
	var names []string
	for name := range nodes {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
	})
	out := tar.NewWriter(os.Stdout)
	for _, name := range names {
		node := nodes[name]
		node.header.Name = name
		var data []byte
		if node.header.Typeflag == tar.TypeReg {
			var err error
			data, err = os.ReadFile(node.source)
			check(err)
		}
		write(out, node.header, node.by, 1, data)
	}
	check(out.Close())
}

func describe(source string, info fs.FileInfo, perms []perm) node {
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		target, err = os.Readlink(source)
		check(err)
	}
	made, err := tar.FileInfoHeader(info, target)
	check(err)
	header := tar.Header{Typeflag: made.Typeflag, Mode: made.Mode, Size: made.Size, Linkname: target}
	if target != "" {
		header.Mode = 0o777
	}
	by := owner{Uname: "root", Gname: "root"}
	for _, perm := range perms {
		if !regexp.MustCompile(perm.Regex).MatchString(source) {
			continue
		}
		by.Uid, by.Gid = perm.Uid, perm.Gid
		if perm.Uname != "" {
			by.Uname = perm.Uname
		}
		if perm.Gname != "" {
			by.Gname = perm.Gname
		}
		if perm.Mode != "" {
			_, err := fmt.Sscanf(perm.Mode, "%o", &header.Mode)
			check(err)
		}
	}
	return node{source: source, info: info, header: header, by: by}
}

func replace() {
	var input [][3]string
	check(json.NewDecoder(os.Stdin).Decode(&input))
	results := []string{}
	for _, triple := range input {
		expression, err := regexp.Compile(triple[0])
		if err != nil {
			results = append(results, "error")
			continue
		}
		replaced := expression.ReplaceAll(unhex(triple[1]), []byte(triple[2]))
		results = append(results, hex.EncodeToString(replaced))
	}
	var text bytes.Buffer
	check(json.NewEncoder(&text).Encode(results))
	_, err := io.Copy(os.Stdout, &text)
	check(err)
}

func main() {
	commands := map[string]func(){"items": items, "layer": layer, "replace": replace}
	command := commands[strings.Join(os.Args[1:], " ")]
	if command == nil {
		fmt.Fprintln(os.Stderr, "gotar items|layer|replace")
		os.Exit(2)
	}
	command()
}
