"""Storage: files and folders on other machines, by their addresses: s3://, hdfs://, https:// and http://.

Files to read are first copied to a temporary folder, which is removed with the reader; files to write are made in one
and sent when they are complete. So the other modules see only files on this machine. S3 and HDFS are reached by
pyarrow.fs, the web by the standard library: nothing more has to be installed. Credentials are those that these
libraries find in their usual places.

    place(text)                      a Path or an Address
    reading.copied(address)          a file, or the files of a folder or a glob, as a Copy
    writing.written_file, written_folder     made here, then sent; the file that marks a folder as complete is sent last

Only the modules that use the network import these libraries.
"""

from recsys_mf.storage.address import SCHEMES, Address, Place, is_address, on_this_machine, place

__all__ = ["SCHEMES", "Address", "Place", "is_address", "on_this_machine", "place"]
