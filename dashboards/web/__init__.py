"""The web page: live views of the studies of one database, and a read-only JSON interface to them.

    snapshot    a study in memory, as columns, and its points
    watch       keeps the snapshots up to date, and tells who listens
    records     what one trial, one structure, one study says: read from the database when it is asked for
    tables      the trial table: filter, sort, page
    fitting     the laws, fitted by a helper process
    drawings    every plot of the page by name
    pages, api  the routes
    security    who may ask, and what a browser may do with the answer
    app, serve  all of it together

Importing this package loads nothing else.
"""
