def write(stored, folder): pass
def goals(parts): return ""
