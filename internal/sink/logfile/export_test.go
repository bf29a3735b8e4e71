package logfile

// Tidy has the files that were put aside looked through, and Tidied waits for that.
func Tidy(f *File)   { f.tidy() }
func Tidied(f *File) { f.tidying.done.Wait() }
