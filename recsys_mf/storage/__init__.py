"""Storage: files and folders on other machines, by their addresses: s3://, hdfs://, https:// and http://.

What is read is copied to a temporary folder first, and removed with its reader; what is written is made there and sent
when it is complete. So everything else knows only files on this machine. S3 and HDFS are reached by pyarrow.fs, the web
by the standard library: nothing has to be installed. Credentials come from where these look for them.

    place(text)                      a Path or an Address
    reading.copied(address)          a file, or the files of a folder or a glob, as a Copy
    writing.written_file, written_folder     made here, then sent; what makes a folder whole is sent last

Only the modules that reach the network import what that takes.
"""

from recsys_mf.storage.address import SCHEMES, Address, Place, is_address, on_this_machine, place

__all__ = ["SCHEMES", "Address", "Place", "is_address", "on_this_machine", "place"]
