"""Jobs: one module each with `run(request, folder, emit) -> dict`.

    request   what the host asks, plain JSON
    folder    the work folder; `blobs/<sha256>` are the files sent, the current directory is the job's own folder,
              where output files go
    emit      called with a dict, which the host's progress callback gets

The result is plain JSON and names output files relative to the job's folder. What goes wrong is a
`JobError`. Stdout and stderr of the job and of what it starts are kept as `log.txt` in the job's folder.
"""
