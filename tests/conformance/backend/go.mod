module lightmesh.test/backend

go 1.26.0
