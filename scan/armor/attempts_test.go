package armor_test

import (
	"maps"
	"path"
	"strings"
)

// attempt is what the success of one attempt of the recorded scripts depends on.
// The scripts are attempts.sh, escape-attempts.sh and legit.sh; everything here
// follows from their text, from the image's real paths and from what the kernel asks
// for, not from what was recorded.
type attempt struct {
	// deeds are programs that must run and capabilities that are asked for; "A|B"
	// where one of two is enough, "+A" where it is asked for whether the container
	// holds it or not. Shell built-ins are no deeds, and neither is what does not
	// change the exit status.
	deeds string
	// status is what the attempt exits with when it reaches what it is after, and
	// shows the beginning of its first line where the status tells nothing.
	status int
	shows  string
}

func attemptsOf(recording string) map[string]attempt {
	switch recording {
	case "escape-block":
		return escapeAttempts()
	case "legit-block":
		return legitAttempts()
	}
	return toolAttempts()
}

func toolAttempts() map[string]attempt {
	return map[string]attempt{
		"true":            {},
		"ls":              {deeds: "/usr/bin/ls"},
		"cat-etc-passwd":  {deeds: "/usr/bin/cat"},
		"chroot":          {deeds: "/usr/sbin/chroot SYS_CHROOT /usr/bin/true"},
		"sbin-chroot":     {deeds: "/sbin/chroot SYS_CHROOT /usr/bin/true"},
		"usr-sbin-chroot": {deeds: "/usr/sbin/chroot SYS_CHROOT /usr/bin/true"},
		"bin-chroot":      {deeds: "/bin/chroot SYS_CHROOT /usr/bin/true"},
		"apt":             {deeds: "/usr/bin/apt"},
		"bin-apt":         {deeds: "/bin/apt"},
		"usr-bin-apt":     {deeds: "/usr/bin/apt"},
		"apt-get":         {deeds: "/usr/bin/apt-get"},
		"dpkg":            {deeds: "/usr/bin/dpkg"},
		"make":            {deeds: "/usr/bin/make"},
		"bin-make":        {deeds: "/bin/make"},
		"curl":            {deeds: "/usr/bin/curl"},
		"bin-curl":        {deeds: "/bin/curl"},
		"wget":            {deeds: "/usr/bin/wget"},
		"bin-wget":        {deeds: "/bin/wget"},
		"copied-curl":     {deeds: "/usr/bin/cp /tmp/notcurl"},
		"ld.so-curl":      {deeds: "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"},
		"mount-tmpfs":     {deeds: "/usr/bin/mount SYS_ADMIN"},
		"mkdir-and-mount": {deeds: "/usr/bin/mkdir /usr/bin/mount SYS_ADMIN"},
		"unshare-mount":   {deeds: "/usr/bin/unshare SYS_ADMIN /usr/bin/true"},
		"unshare-user":    {deeds: "/usr/bin/unshare /usr/bin/true"},
		"sethostname":     {deeds: "/usr/bin/hostname SYS_ADMIN"},
		// The file has mode 000: reading needs either of the two, writing the one.
		"dac-read":        {deeds: "/usr/bin/cat DAC_READ_SEARCH|DAC_OVERRIDE"},
		"dac-write":       {deeds: "DAC_OVERRIDE"},
		"dac-other-owner": {deeds: "/usr/bin/cat DAC_READ_SEARCH|DAC_OVERRIDE"},
		// The status is that of ls, which may list the directory.
		"dac-other-dir": {deeds: "/usr/bin/mkdir /usr/bin/ls"},
		// Tracing processes of one's own user asks for no capability.
		"strace-child":   {deeds: "/usr/bin/strace /usr/bin/true"},
		"strace-attach":  {deeds: "/usr/bin/sleep /usr/bin/timeout /usr/bin/strace"},
		"proc-1-environ": {deeds: "/usr/bin/wc"},
		// ENOEXEC and ESTALE come after the question of the capability.
		"sys_module":     {deeds: "/usr/bin/perl SYS_MODULE", status: 8},
		"open_by_handle": {deeds: "/usr/bin/perl DAC_READ_SEARCH", status: 116},
		"nsenter":        {deeds: "/usr/bin/nsenter SYS_ADMIN SYS_CHROOT /usr/bin/true"},
		// The status is that of rm.
		"mknod": {deeds: "/usr/bin/rm"},
		"capsh": {deeds: "/usr/bin/head"},
	}
}

// inBusyBox is the same where every command is an applet. BusyBox's shell starts
// applets as itself, so a bare name is /bin/busybox; a typed path is what it leads
// to. Its wget and dpkg know no --version and exit 1 when they ran.
func inBusyBox(attempts map[string]attempt) map[string]attempt {
	attempts = maps.Clone(attempts)
	for name, a := range attempts {
		var deeds []string
		for deed := range strings.FieldsSeq(a.deeds) {
			switch {
			case strings.HasPrefix(name, "bin-") && strings.HasPrefix(deed, "/bin/"):
				deed = "/bin/" + path.Base(deed)
			case strings.HasPrefix(deed, "/"):
				deed = "/bin/busybox"
			}
			deeds = append(deeds, deed)
		}
		a.deeds = strings.Join(deeds, " ")
		switch name {
		case "wget", "bin-wget", "dpkg":
			a.status = 1
		}
		attempts[name] = a
	}
	return attempts
}

func escapeAttempts() map[string]attempt {
	return map[string]attempt{
		"true":               {},
		"disk-read":          {deeds: "/usr/bin/head /usr/bin/wc /usr/bin/grep", shows: "read"},
		"disk-mknod-read":    {deeds: "/usr/bin/mknod MKNOD /usr/bin/head /usr/bin/wc /usr/bin/grep", shows: "read"},
		"debugfs":            {deeds: "/usr/sbin/debugfs"},
		"core_pattern-write": {shows: "wrote"},
		"uevent-write":       {shows: "wrote"},
		"sysrq-write":        {shows: "wrote"},
		"proc1root-read":     {deeds: "/usr/bin/head", shows: "root:"},
		"proc1root-write":    {shows: "wrote"},
		"proc1-environ":      {deeds: "/usr/bin/head /usr/bin/od", shows: "0000000"},
		"nsenter-mnt":        {deeds: "/usr/bin/nsenter SYS_ADMIN SYS_CHROOT /usr/bin/cat"},
		"nsenter-all":        {deeds: "/usr/bin/nsenter SYS_ADMIN SYS_CHROOT /usr/bin/cat"},
		// A process of the host holds more than the container.
		"strace-hostproc":        {deeds: "/usr/bin/pgrep /usr/bin/timeout /usr/bin/strace SYS_PTRACE", shows: "attached"},
		"mount-disk":             {deeds: "/usr/bin/mkdir /usr/bin/mount SYS_ADMIN /usr/bin/ls", shows: "bin"},
		"hostroot-read":          {deeds: "/usr/bin/head", shows: "root:"},
		"hostroot-write":         {shows: "wrote"},
		"hostroot-cron":          {deeds: "/usr/bin/mkdir", shows: "wrote"},
		"hostroot-chroot":        {deeds: "/usr/sbin/chroot SYS_CHROOT /host/usr/bin/cat", shows: "vm"},
		"hostroot-chroot-copied": {deeds: "/usr/bin/cp /dev/shm/c SYS_CHROOT /host/usr/bin/cat", shows: "vm"},
		"hostroot-chroot-perl":   {deeds: "/usr/bin/perl SYS_CHROOT /host/usr/bin/cat", shows: "vm"},
		"hostroot-sock":          {deeds: "/usr/bin/ls", shows: "/host/run"},
		"hostroot-ctr":           {deeds: "/usr/bin/ls", shows: "-rwx"},
		"hostproc-core":          {shows: "wrote"},
		"hostlog-symlink":        {deeds: "/usr/bin/ln", shows: "made"},
		"shocker":                {deeds: "/usr/bin/perl DAC_READ_SEARCH", shows: "opened"},
		"init_module":            {deeds: "/usr/bin/perl SYS_MODULE", status: 8},
		"devmem":                 {deeds: "/usr/bin/head SYS_RAWIO /usr/bin/wc", shows: "16"},
		"bpf":                    {deeds: "/usr/bin/perl SYS_ADMIN", shows: "map"},
		"unshare-U-mount":        {deeds: "/usr/bin/unshare +SYS_ADMIN /usr/bin/mount", shows: "mounted"},
		"release_agent":          {deeds: "/usr/bin/mkdir /usr/bin/mount SYS_ADMIN", shows: "mounted"},
	}
}

// legitAttempts change files of the image: the overlay file system then copies them
// up and marks what is gone, and asks for SYS_ADMIN to write its attributes and for
// DAC_OVERRIDE to work in its own closed directories.
func legitAttempts() map[string]attempt {
	return map[string]attempt{
		"write-tmp":         {deeds: "/usr/bin/cat /usr/bin/rm"},
		"touch-lower-file":  {deeds: "/usr/bin/touch +SYS_ADMIN"},
		"chmod-lower-file":  {deeds: "/usr/bin/chmod +SYS_ADMIN"},
		"sed-i-lower-file":  {deeds: "/usr/bin/sed"},
		"append-lower-file": {deeds: "+SYS_ADMIN"},
		"rm-lower-file":     {deeds: "/usr/bin/rm +DAC_OVERRIDE"},
		"replace-lower-dir": {deeds: "/usr/bin/rm /usr/bin/mkdir /usr/bin/wc +SYS_ADMIN"},
		"mv-lower-dir":      {deeds: "/usr/bin/mv /usr/bin/ls +SYS_ADMIN"},
		"mv-lower-file":     {deeds: "/usr/bin/mv +SYS_ADMIN"},
		"hardlink":          {deeds: "/usr/bin/ln +SYS_ADMIN"},
		// tar makes a placeholder of mode 000 for each absolute link.
		"tar":                     {deeds: "/usr/bin/tar /usr/bin/mkdir +DAC_OVERRIDE"},
		"tar-as-root-other-owner": {deeds: "/usr/bin/mkdir /usr/bin/tar"},
		"su":                      {deeds: "/usr/bin/su SETUID SETGID /usr/bin/dash /usr/bin/id"},
		"setpriv":                 {deeds: "/usr/bin/setpriv SETUID SETGID /usr/bin/id"},
		"chown":                   {deeds: "/usr/bin/touch /usr/bin/chown CHOWN /usr/bin/rm"},
		"log-owned-by-www-data":   {deeds: "/usr/bin/mkdir DAC_OVERRIDE"},
		"ls-dir-700-of-other":     {deeds: "/usr/bin/mkdir /usr/bin/ls DAC_READ_SEARCH|DAC_OVERRIDE"},
		"find-all":                {deeds: "/usr/bin/head"},
		"ps":                      {deeds: "/usr/bin/wc"},
		"proc-exe-of-other-uid":   {deeds: "/usr/bin/setpriv /usr/bin/sleep /usr/bin/readlink SYS_PTRACE"},
		"kill-other-uid":          {deeds: "/usr/bin/setpriv /usr/bin/sleep KILL"},
		"listen-80":               {deeds: "/usr/bin/perl"},
		"perl":                    {deeds: "/usr/bin/perl"},
		"bigmem":                  {deeds: "/usr/bin/perl"},
	}
}
